import type { Kysely, Selectable, Transaction } from 'kysely'
import { type ChainHead, hashEvent } from '../../shared/audit/event-chain.ts'
import { cutText, wellFormed } from '../../shared/cut-text.ts'
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

/**
 * Records what happened, in the transaction that made it so, as the next link of the chain. Transactions that write run one
 * after the other, so nobody else takes the same number; should somebody, the second write fails. Says its id.
 */
export async function recordEvent(
  tx: Transaction<Database>,
  event: NewEvent,
  /** Leaves out numbers: those up to this one were given to events that are lost. */
  { after = 0 }: { readonly after?: number } = {},
): Promise<number> {
  const last = await newestLink(tx)
  const row = {
    id: Math.max(last?.id ?? 0, after) + 1,
    at: event.at.getTime(),
    class: cutText(event.class, 64),
    machine: wellFormed(event.machine ?? ''),
    host: wellFormed(event.host ?? ''),
    reason: cutText(event.reason, MAX_REASON_CHARS),
    actor: wellFormed(event.actor),
    previous: last?.hash ?? '',
  }
  await tx
    .insertInto('events')
    .values({ ...row, hash: hashEvent(row) })
    .execute()
  return row.id
}

/** The hash of an event; undefined: there is none with this id. */
export async function eventHash(db: Kysely<Database>, id: number): Promise<string | undefined> {
  return (await db.selectFrom('events').select('hash').where('id', '=', id).executeTakeFirst())?.hash
}

/** When something of these classes last happened; undefined: never, or it is deleted by now. */
export async function newestEventAt(
  db: Kysely<Database>,
  classes: readonly string[],
): Promise<number | undefined> {
  const ofThem = db.selectFrom('events').select('at').where('class', 'in', classes)
  return (await ofThem.orderBy('id', 'desc').limit(1).executeTakeFirst())?.at
}

/** Whether the same is on record already, whenever it happened. */
export async function hasEvent(
  db: Kysely<Database>,
  { class: kind, reason }: Pick<NewEvent, 'class' | 'reason'>,
): Promise<boolean> {
  const same = db
    .selectFrom('events')
    .select('id')
    .where('class', '=', kind)
    .where('reason', '=', cutText(reason, MAX_REASON_CHARS))
  return (await same.limit(1).executeTakeFirst()) !== undefined
}

/** The end of the chain; undefined: nothing has happened yet. */
export async function newestLink(db: Kysely<Database>): Promise<ChainHead | undefined> {
  return await db
    .selectFrom('events')
    .select(['id', 'hash'])
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Events that one machine may cause, and in what time. */
const CLAIMS = 100
const CLAIMS_MS = 600_000

/**
 * Records what a machine causes at will. Events are kept up to a number, so a machine that causes more and more of them
 * would push out what operators did: beyond its share nothing is recorded. Conditions, which are one of a kind, still are.
 */
export async function recordClaim(
  tx: Transaction<Database>,
  event: NewEvent & { readonly machine: string },
): Promise<void> {
  const oldest = await tx
    .selectFrom('events')
    .select('at')
    .where('machine', '=', event.machine)
    .orderBy('id', 'desc')
    .offset(CLAIMS - 1)
    .limit(1)
    .executeTakeFirst()
  if (oldest && oldest.at > event.at.getTime() - CLAIMS_MS) return
  await recordEvent(tx, event)
}

/** Newest first. */
export function listEventRows(
  db: Kysely<Database>,
  input: {
    readonly machine?: string
    readonly after?: number
    readonly before?: number
    readonly limit: number
  },
): Promise<EventRow[]> {
  let query = db.selectFrom('events').selectAll()
  if (input.machine !== undefined) query = query.where('machine', '=', input.machine)
  if (input.after !== undefined && input.after > 0) query = query.where('id', '>', input.after)
  if (input.before !== undefined && input.before > 0) query = query.where('id', '<', input.before)
  return query.orderBy('id', 'desc').limit(input.limit).execute()
}
