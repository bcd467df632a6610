import type { Transaction } from 'kysely'
import { listEventRows, recordClaim } from './events.ts'
import type { Database } from './tables.ts'

/** A machine that keeps doing what it should not is shown once in this time. */
const EVENT_PAUSE_MS = 60_000

/** Records an event unless the machine's newest one is of the same class and not a minute old. */
export async function recordSeldom(
  tx: Transaction<Database>,
  kind: string,
  machine: string,
  now: Date,
  reason: string,
): Promise<void> {
  const [last] = await listEventRows(tx, { machine, limit: 1 })
  if (last?.class === kind && now.getTime() - last.at < EVENT_PAUSE_MS) return
  await recordClaim(tx, { at: now, class: kind, machine, reason, actor: machine })
}
