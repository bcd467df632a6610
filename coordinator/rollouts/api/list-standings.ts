import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../../shared/clock.ts'
import {
  type HostStandingSchema,
  type ListStandingsRequest,
  type ListStandingsResponseSchema,
  type Rollout,
  type RolloutHost,
  RolloutHostState,
} from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { TURN_GATES } from '../../../shared/rollout/turn-gates.ts'
import { openRollouts, rolloutsTouching } from '../../store/rollouts.ts'
import type { Store } from '../../store/store.ts'
import { describeRollouts } from '../describe-rollout.ts'
import type { PendingHost, PendingHosts } from '../pending-hosts.ts'

export interface StandingsDeps {
  readonly store: Store
  readonly clock: Clock
  readonly pending: Pick<PendingHosts, 'all' | 'ofRollout'>
}

export type StandingInit = MessageInitShape<typeof HostStandingSchema>

/** Standings that one answer holds. */
export const MOST_STANDINGS = 1_000
/** Beside those of its turn what holds every host for a moment. */
const EVERYDAY: readonly string[] = ['soak', 'fetching', 'retry']

export function listStandings({ store, clock, pending }: StandingsDeps) {
  return async ({
    host,
  }: ListStandingsRequest): Promise<MessageInitShape<typeof ListStandingsResponseSchema>> => {
    const open = await openRollouts(store.db)
    const touching = host === '' ? undefined : await rolloutsTouching(store.db, [host], [])
    const wanted = touching ? open.filter(({ id }) => touching.some(({ rollout }) => rollout === id)) : open
    const rollouts = await describeRollouts(store.db, wanted, 'full', clock.now().getTime())
    const standings = [
      ...rollouts.flatMap(rollout =>
        rollout.hosts
          .filter(one => (host === '' ? isHeldForItself(one) : one.host === host && isUnderWay(one)))
          .map(one => standingIn(rollout, one)),
      ),
      ...pending
        .all()
        .filter(one => host === '' || one.host === host)
        .map(standingOfPending),
    ]
    const byHost = standings.toSorted((a, b) => ((a.host ?? '') < (b.host ?? '') ? -1 : 1))
    return { standings: byHost.slice(0, MOST_STANDINGS) }
  }
}

function isUnderWay({ state }: RolloutHost): boolean {
  return state === RolloutHostState.WAITING || state === RolloutHostState.MOVING
}

function isHeldForItself({ waits }: RolloutHost): boolean {
  return waits.some(({ gate }) => !TURN_GATES.has(gate) && !EVERYDAY.includes(gate))
}

function standingIn({ id, action, revision }: Rollout, one: RolloutHost): StandingInit {
  const { host, machine, state, step, waits } = one
  return { host, machine, rollout: id, action, revision, state, step, waits }
}

export function standingOfPending(one: PendingHost): StandingInit {
  return {
    host: one.host,
    machine: one.machine,
    rollout: one.rollout,
    action: one.action,
    revision: BigInt(one.revision),
    pending: true,
    behind: one.behind,
    state: RolloutHostState.LEFT,
    waits: one.waits.map(({ gate, reason, opens, sinceMs }) => ({
      gate,
      reason,
      opens,
      since: timestampFromMs(sinceMs),
    })),
  }
}
