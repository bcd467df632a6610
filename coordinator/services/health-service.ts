import { sql } from 'kysely'
import {
  type Health,
  HealthCheckResponse_ServingStatus as Serving,
} from '../../shared/gen/grpc/health/v1/health_pb.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import type { RolloutRunner } from '../rollouts/runner.ts'
import type { SessionRegistry } from '../sessions/registry.ts'
import type { Store } from '../store/store.ts'

const DEADLINE_MS = 2_000

/** Health that proves a round trip through store, sessions and rollouts, not only that a port is open. */
export function healthService(deps: {
  readonly store: Pick<Store, 'transact'>
  readonly registry: Pick<SessionRegistry, 'roundTrip'>
  readonly runner: Pick<RolloutRunner, 'standstill'>
}): ServiceHandlers<typeof Health> {
  return {
    async check() {
      try {
        await withDeadline(DEADLINE_MS, undefined, async () => {
          // In the queue of all that write: a read would go on while nobody can write any more.
          await deps.store.transact(async tx => await sql`select 1`.execute(tx))
          await deps.registry.roundTrip()
        })
        const stands = deps.runner.standstill() !== undefined
        return { status: stands ? Serving.NOT_SERVING : Serving.SERVING }
      } catch {
        return { status: Serving.NOT_SERVING } // whatever it was, its own log has it; a probe wants one word
      }
    },
  }
}
