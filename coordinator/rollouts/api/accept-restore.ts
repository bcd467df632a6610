import type { Clock } from '../../../shared/clock.ts'
import type { AcceptRestoreRequest } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { precondition } from '../../../shared/rpc/rpc-error.ts'
import { actorOf, type Caller } from '../../api/caller.ts'
import type { RestoreWatch } from '../restore-watch.ts'
import { readWhy } from './locks.ts'

export interface AcceptRestoreDeps {
  readonly clock: Clock
  readonly restoreWatch: RestoreWatch
  readonly onRolloutsChanged: () => void
}

/** Lets rollouts begin again after an operator looked at what the store lacks. */
export function acceptRestore({ clock, restoreWatch, onRolloutsChanged }: AcceptRestoreDeps) {
  return async (request: AcceptRestoreRequest, caller: Caller): Promise<{ accepted: string[] }> => {
    const why = readWhy(request.why)
    const accepted = await restoreWatch.accept(actorOf(caller), why, clock.now())
    if (accepted.length === 0) {
      throw precondition('nodes report nothing that this store lacks, so there is nothing to accept')
    }
    onRolloutsChanged()
    return { accepted: [...accepted] }
  }
}
