import { sql } from 'kysely'
import {
  type Health,
  HealthCheckResponse_ServingStatus as Serving,
} from '../../shared/gen/grpc/health/v1/health_pb.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import type { SessionRegistry } from '../sessions/registry.ts'
import type { Store } from '../store/store.ts'

const DEADLINE_MS = 2_000

/** Health that proves a round trip through the store and the sessions, not only that a port is open. */
export function healthService(deps: {
  readonly store: Store
  readonly registry: SessionRegistry
}): ServiceHandlers<typeof Health> {
  return {
    async check() {
      try {
        await withDeadline(DEADLINE_MS, undefined, async () => {
          await sql`select 1`.execute(deps.store.db)
          await deps.registry.roundTrip()
        })
        return { status: Serving.SERVING }
      } catch {
        return { status: Serving.NOT_SERVING } // whatever it was, its own log has it; a probe wants one word
      }
    },
  }
}
