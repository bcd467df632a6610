import type { Kysely, Selectable, Transaction } from 'kysely'
import type { Database, EventsTable } from './tables.ts'

export type EventRow = Selectable<EventsTable>

export interface NewEvent {
  readonly at: Date
  readonly class: string
  readonly machine?: string
  readonly host?: string
  readonly reason: string
  readonly actor: string
}

/** Longest text kept of a reason; machines' own words may stand in it. */
const MAX_REASON_CHARS = 4_000

/** Records what happened, in the transaction that made it so. */
export async function recordEvent(tx: Transaction<Database>, event: NewEvent): Promise<void> {
  await tx
    .insertInto('events')
    .values({
      at: event.at.getTime(),
      class: event.class.slice(0, 64),
      machine: event.machine ?? '',
      host: event.host ?? '',
      reason: event.reason.slice(0, MAX_REASON_CHARS),
      actor: event.actor,
    })
    .execute()
}

/** Newest first. */
export function listEventRows(
  db: Kysely<Database>,
  input: { readonly machine?: string; readonly after?: number; readonly limit: number },
): Promise<EventRow[]> {
  let query = db.selectFrom('events').selectAll()
  if (input.machine !== undefined) query = query.where('machine', '=', input.machine)
  if (input.after !== undefined && input.after > 0) query = query.where('id', '>', input.after)
  return query.orderBy('id', 'desc').limit(input.limit).execute()
}
