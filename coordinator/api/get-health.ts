import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { GetHealthRequest, GetHealthResponseSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { judgeFleet } from '../health/judge-fleet.ts'
import { type FleetLifeDeps, readFleetLife } from '../health/read-fleet-life.ts'
import type { Caller } from './caller.ts'

/** What always has to be true of a fleet, and is not. */
export function getHealth(deps: FleetLifeDeps) {
  return async (
    _request: GetHealthRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof GetHealthResponseSchema>> => {
    const problems = judgeFleet(await readFleetLife(deps), deps.clock.now().getTime())
    return {
      problems: problems.map(({ sinceMs, ...rest }) => ({ ...rest, since: timestampFromMs(sinceMs) })),
    }
  }
}
