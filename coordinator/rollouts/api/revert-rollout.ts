import { cutText } from '../../../shared/cut-text.ts'
import type { RevertRolloutRequest, Rollout } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { invalid } from '../../../shared/rpc/rpc-error.ts'
import { actorOf, type Caller } from '../../api/caller.ts'
import { changeRollout, findRollout, findRolloutByRequest } from '../../store/rollouts.ts'
import type { BeginDeps } from '../begin-rollout.ts'
import { describeRollouts } from '../describe-rollout.ts'
import type { SnapshotDeps } from '../read-snapshot.ts'
import { beginRevert, refuseVainRevert } from '../revert-rollout.ts'
import { requireRollout } from './find-rollout.ts'

/** Ends a rollout where it is not over, and begins the one that takes it back. */
export function revertRollout(deps: BeginDeps & SnapshotDeps) {
  return async (request: RevertRolloutRequest, caller: Caller): Promise<{ readonly rollout: Rollout }> => {
    const { store, clock } = deps
    const { requestId } = request
    if (requestId === '' || requestId.length > 64) {
      throw invalid('request_id: must be 1 to 64 characters, random for each intent')
    }
    const row = await requireRollout(store.db, request.id)
    const known = await findRolloutByRequest(store.db, requestId)
    const startedBy = actorOf(caller)
    const by = { requestId, startedBy, why: cutText(request.why.trim(), 1_000) }
    if (!known) await refuseVainRevert(deps, row, by)
    if (!known && row.ended === null) {
      await store.transact(async tx => {
        const open = await findRollout(tx, row.id)
        if (!open || open.ended !== null) return
        const reason = `taken back by ${startedBy}`
        await changeRollout(tx, open, { state: 'ending', ends_as: 'aborted', reason })
      })
    }
    const begun = known ?? (await beginRevert(deps, row, by))
    const newest = (await findRollout(store.db, begun.id)) ?? begun
    const [rollout] = await describeRollouts(store.db, [newest], 'full', clock.now().getTime())
    if (!rollout) throw new Error(`rollout ${begun.id} is gone`)
    return { rollout }
  }
}
