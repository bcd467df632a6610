import { pause } from '../shared/lifecycle.ts'
import type { Logger } from '../shared/log.ts'
import type { CoordinatorConfig } from './config.ts'
import type { MachineDirectory } from './machines/directory.ts'
import { forgetPending } from './machines/forget-pending.ts'
import { expireOrders, type OrderDeps, wakeDue } from './operations/orders.ts'
import { diskProblem } from './retention/disk-space.ts'
import { type RetentionDeps, trim } from './retention/trim.ts'
import { RETENTION } from './retention/what-to-delete.ts'
import type { Sessions } from './sessions/sessions.ts'
import { pruneTokens } from './store/tokens.ts'

export interface HousekeepingDeps extends OrderDeps, RetentionDeps {
  readonly log: Logger
  readonly directory: MachineDirectory
  readonly config: CoordinatorConfig
  readonly sessions: Pick<Sessions, 'wake'>
  /** Shows machines how far the record of events goes. */
  readonly showAuditHead: () => Promise<void>
  /** Told how full the disk of the state folder is, when that is a problem. */
  readonly onDisk: (problem: string | undefined) => void
}

/** How long a waiting machine that is not heard of any more is remembered. */
const PENDING_KEPT_MS = 86_400_000
const ORDERS_EVERY_MS = 10_000
const RETENTION_EVERY_MS = 3_600_000

/** What has to be done by the clock: orders that expire, and records that are kept long enough. */
export async function housekeeping(deps: HousekeepingDeps, signal: AbortSignal): Promise<void> {
  const { days, logBytes } = deps.config.retention
  const policy = { ...RETENTION, maxAgeMs: days * 86_400_000, logBytes }
  /** Apart from each other: one chore that cannot be done keeps none of the others from being done. */
  const chore = async (name: string, work: () => Promise<unknown>) => {
    try {
      await work()
    } catch (error) {
      deps.log.error({ err: error, chore: name }, 'housekeeping failed; it is tried again')
    }
  }
  let retained = Number.NEGATIVE_INFINITY
  do {
    await chore('disk', async () => deps.onDisk(await diskProblem(deps.config.stateDir)))
    await chore('audit', deps.showAuditHead)
    await chore('orders', () => expireOrders(deps))
    await chore('orders that were to wait', () => wakeDue(deps))
    if (performance.now() - retained >= RETENTION_EVERY_MS) {
      retained = performance.now()
      await chore('retention', () => trim({ ...deps, policy }, signal))
      await chore('waiting machines', () => forgetPending(deps, PENDING_KEPT_MS))
      const endedBeforeMs = deps.clock.now().getTime() - policy.maxAgeMs
      await chore('tokens', () => deps.store.transact(tx => pruneTokens(tx, endedBeforeMs)))
    }
  } while (
    await pause(
      Math.min(ORDERS_EVERY_MS, deps.config.orderMinutes * 30_000, deps.config.auditSeconds * 1_000),
      signal,
    )
  )
}
