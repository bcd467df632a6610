import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { GetHealthRequest, GetHealthResponseSchema } from '../../shared/gen/muster/v1/health_pb.ts'
import { judgeFleet } from '../health/judge-fleet.ts'
import { type FleetLifeDeps, readFleetLife } from '../health/read-fleet-life.ts'
import { fleetProblems } from '../machines/fleet-problems.ts'
import { type FleetHealthDeps, readFleetHealth } from '../machines/read-fleet-health.ts'
import type { Caller } from './caller.ts'

export interface GetHealthDeps extends FleetLifeDeps, Omit<FleetHealthDeps, keyof FleetLifeDeps> {
  /** What else is wrong, such as a backup that failed. */
  readonly otherProblems: () => readonly string[]
}

/** What always has to be true of a fleet, and is not; and what is wrong with the coordinator itself, which a monitor has to hear as well. */
export function getHealth(deps: GetHealthDeps) {
  return async (
    _request: GetHealthRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof GetHealthResponseSchema>> => {
    const now = deps.clock.now()
    const problems = judgeFleet(await readFleetLife(deps), now.getTime())
    // What is an invariant as well is told once.
    const told = new Set(problems.map(({ reason }) => reason))
    const own = [...fleetProblems(await readFleetHealth(deps), now), ...deps.otherProblems()].filter(
      reason => !told.has(reason),
    )
    return {
      problems: [
        ...problems.map(({ sinceMs, ...rest }) => ({ ...rest, since: timestampFromMs(sinceMs) })),
        ...own.map(reason => ({ class: 'coordinator', reason })),
      ],
    }
  }
}
