import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../../shared/clock.ts'
import type {
  GetRolloutRequest,
  GetRolloutResponseSchema,
  ListRolloutsRequest,
  ListRolloutsResponseSchema,
  WatchRolloutRequest,
  WatchRolloutResponseSchema,
} from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { invalid } from '../../../shared/rpc/rpc-error.ts'
import type { Caller } from '../../api/caller.ts'
import type { ChangeFeed } from '../../operations/change-feed.ts'
import { findRollout, grantsOfRollouts, listRolloutRows } from '../../store/rollouts.ts'
import type { Store } from '../../store/store.ts'
import { describeRollouts } from '../describe-rollout.ts'
import type { PendingHosts } from '../pending-hosts.ts'
import { requireRollout } from './find-rollout.ts'
import { MOST_STANDINGS, type StandingInit, standingOfPending } from './list-standings.ts'

export interface ShowDeps {
  readonly store: Store
  readonly clock: Clock
  readonly rolloutFeed: ChangeFeed
  readonly operationFeed: ChangeFeed
  readonly halted: () => string | undefined
  readonly pending: Pick<PendingHosts, 'ofRollout'>
}

const MAX_LISTED = 1_000
/** Changes that come in crowds go out together. */
const WATCH_PAUSE_MS = 200

export function listRollouts({ store, clock, halted }: ShowDeps) {
  return async ({
    limit,
    open,
  }: ListRolloutsRequest): Promise<MessageInitShape<typeof ListRolloutsResponseSchema>> => {
    if (limit > MAX_LISTED) throw invalid(`limit: at most ${MAX_LISTED}`)
    const rows = await listRolloutRows(store.db, { limit: limit || 100, open })
    const rollouts = await describeRollouts(store.db, rows, 'brief', clock.now().getTime())
    return { rollouts, halted: halted() ?? '' }
  }
}

export function getRollout({ store, clock, halted, pending }: ShowDeps) {
  return async ({ id }: GetRolloutRequest): Promise<MessageInitShape<typeof GetRolloutResponseSchema>> => {
    const row = await requireRollout(store.db, id)
    const [rollout] = await describeRollouts(store.db, [row], 'full', clock.now().getTime())
    return { ...(rollout && { rollout }), halted: halted() ?? '', pending: pendingOf(pending, row.id) }
  }
}

function pendingOf(pending: ShowDeps['pending'], rollout: string): StandingInit[] {
  return pending.ofRollout(rollout).slice(0, MOST_STANDINGS).map(standingOfPending)
}

/** Sends a rollout, then the hosts that changed; ends when it is over. */
export function watchRollout({ store, clock, rolloutFeed, operationFeed, halted, pending }: ShowDeps) {
  return async function* (
    { id }: WatchRolloutRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof WatchRolloutResponseSchema>> {
    const { id: rollout } = await requireRollout(store.db, id)
    const sent = new Map<string, string>()
    for (let first = true; ; first = false) {
      const operations = (await grantsOfRollouts(store.db, [rollout]))
        .filter(({ closed, operation }) => closed === null && operation !== '')
        .map(({ operation }) => operation)
      // Before the look, so that no change falls between the two; phases of operations are changes, too.
      using changes = rolloutFeed.watch([rollout])
      using phases = operationFeed.watch(operations)
      const row = await findRollout(store.db, rollout)
      if (!row) return
      const [whole] = await describeRollouts(store.db, [row], 'full', clock.now().getTime())
      if (!whole) return
      const hosts = whole.hosts.filter(host => {
        const text = JSON.stringify(host, (_key, value: unknown) =>
          typeof value === 'bigint' ? String(value) : value,
        )
        const before = sent.get(host.host)
        sent.set(host.host, text)
        return first || before !== text
      })
      yield { rollout: { ...whole, hosts }, halted: halted() ?? '', pending: pendingOf(pending, rollout) }
      if (row.ended !== null || signal.aborted) return
      const either = new AbortController()
      const stop = () => either.abort()
      signal.addEventListener('abort', stop, { once: true })
      try {
        await Promise.race([changes.next(either.signal), phases.next(either.signal)])
      } finally {
        stop()
        signal.removeEventListener('abort', stop)
      }
      if (!(await pause(WATCH_PAUSE_MS, signal))) return
    }
  }
}
