import type { Kysely, Selectable, Transaction } from 'kysely'
import type { Database, FactsTable } from './tables.ts'

export type FactsRow = Selectable<FactsTable>

/** How much of a machine's history is kept beside its newest facts. */
export interface FactsLimits {
  readonly keep: number
  readonly maxAgeMs: number
}

/** Adds a set of facts. Two within one millisecond of one machine: the later replaces the earlier. */
export async function insertFacts(
  tx: Transaction<Database>,
  row: { readonly machine: string; readonly digest: string; readonly at: number; readonly facts: Uint8Array },
): Promise<void> {
  await tx
    .insertInto('facts')
    .values(row)
    .onConflict(conflict =>
      conflict.columns(['machine', 'at']).doUpdateSet({ digest: row.digest, facts: row.facts }),
    )
    .execute()
}

/** Drops what is over the limits; the newest set always stays. */
export async function pruneFacts(
  tx: Transaction<Database>,
  machine: string,
  nowMs: number,
  limits: FactsLimits,
): Promise<void> {
  const times = await tx
    .selectFrom('facts')
    .select('at')
    .where('machine', '=', machine)
    .orderBy('at', 'desc')
    .execute()
  const cut = times.find(
    ({ at }, index) => index > 0 && (index >= limits.keep || at < nowMs - limits.maxAgeMs),
  )
  if (!cut) return
  await tx.deleteFrom('facts').where('machine', '=', machine).where('at', '<=', cut.at).execute()
}

/** The newest sets of one machine, newest first. */
export function factsHistory(db: Kysely<Database>, machine: string, limit: number): Promise<FactsRow[]> {
  return db
    .selectFrom('facts')
    .selectAll()
    .where('machine', '=', machine)
    .orderBy('at', 'desc')
    .limit(limit)
    .execute()
}

/** The newest set of one machine that came before an instant. */
export function factsBefore(
  db: Kysely<Database>,
  machine: string,
  beforeMs: number,
): Promise<FactsRow | undefined> {
  return db
    .selectFrom('facts')
    .selectAll()
    .where('machine', '=', machine)
    .where('at', '<', beforeMs)
    .orderBy('at', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Newest facts of some machines (at most 500 at a time); one that never sent any is missing. */
export async function newestFacts(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<ReadonlyMap<string, Buffer>> {
  if (machines.length === 0) return new Map()
  if (machines.length > 500) throw new RangeError('newestFacts: at most 500 machines at a time')
  const newest = db
    .selectFrom('facts')
    .select(({ fn }) => ['machine as of', fn.max('at').as('newest')])
    .where('machine', 'in', [...machines])
    .groupBy('machine')
    .as('latest')
  const rows = await db
    .selectFrom('facts')
    .innerJoin(newest, join =>
      join.onRef('latest.of', '=', 'facts.machine').onRef('latest.newest', '=', 'facts.at'),
    )
    .select(['facts.machine', 'facts.facts'])
    .execute()
  return new Map(rows.map(row => [row.machine, row.facts]))
}

/** When the newest facts of some machines (at most 500 at a time) were taken down, in milliseconds. */
export async function newestFactsTimes(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  if (machines.length === 0) return new Map()
  const rows = await db
    .selectFrom('facts')
    .select(({ fn }) => ['machine', fn.max('at').as('at')])
    .where('machine', 'in', machines)
    .groupBy('machine')
    .execute()
  return new Map(rows.map(({ machine, at }) => [machine, Number(at)]))
}

/** The facts of a machine that were the newest at some instant; undefined: none were there yet, or they are forgotten. */
export async function factsAt(
  db: Kysely<Database>,
  machine: string,
  atMs: number,
): Promise<Buffer | undefined> {
  const row = await db
    .selectFrom('facts')
    .select('facts')
    .where('machine', '=', machine)
    .where('at', '<=', atMs)
    .orderBy('at', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row?.facts
}
