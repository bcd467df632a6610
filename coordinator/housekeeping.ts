import { pause } from '../shared/lifecycle.ts'
import type { Logger } from '../shared/log.ts'
import type { CoordinatorConfig } from './config.ts'
import { expireOrders, type OrderDeps } from './operations/orders.ts'
import { type RetentionDeps, retain } from './retention/retain.ts'

export interface HousekeepingDeps extends OrderDeps, RetentionDeps {
  readonly log: Logger
  readonly config: CoordinatorConfig
}

const ORDERS_EVERY_MS = 10_000
const RETENTION_EVERY_MS = 3_600_000

/** What has to be done by the clock: orders that expire, and records that are kept long enough. */
export async function housekeeping(deps: HousekeepingDeps, signal: AbortSignal): Promise<void> {
  let retained = Number.NEGATIVE_INFINITY
  do {
    try {
      await expireOrders(deps)
      if (performance.now() - retained >= RETENTION_EVERY_MS) {
        retained = performance.now()
        await retain(deps, signal)
      }
    } catch (error) {
      deps.log.error({ err: error }, 'housekeeping failed; it is tried again')
    }
  } while (await pause(Math.min(ORDERS_EVERY_MS, deps.config.orderMinutes * 30_000), signal))
}
