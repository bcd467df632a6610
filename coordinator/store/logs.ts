import type { Kysely, Transaction } from 'kysely'
import { readTexts } from './json.ts'
import type { Database } from './tables.ts'

/** Lines of an operation as they came; `count` of them from number `first`. */
export interface LogChunk {
  readonly first: number
  readonly lines: readonly string[]
  /** Lines left out before these. */
  readonly dropped: number
}

/** How much of an operation's output is kept. */
export interface LogTotals {
  readonly lines: number
  readonly bytes: number
}

export async function findLogChunk(
  db: Kysely<Database>,
  operation: string,
  first: number,
): Promise<LogChunk | undefined> {
  const row = await db
    .selectFrom('log_chunks')
    .selectAll()
    .where('operation', '=', operation)
    .where('first', '=', first)
    .executeTakeFirst()
  return row && { first: row.first, lines: readTexts(row.lines), dropped: row.dropped }
}

/** The newest chunk; undefined while there is none. */
export async function lastLogChunk(db: Kysely<Database>, operation: string): Promise<LogChunk | undefined> {
  const row = await db
    .selectFrom('log_chunks')
    .selectAll()
    .where('operation', '=', operation)
    .orderBy('first', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row && { first: row.first, lines: readTexts(row.lines), dropped: row.dropped }
}

export async function logTotals(db: Kysely<Database>, operation: string): Promise<LogTotals> {
  const row = await db
    .selectFrom('log_chunks')
    .select(({ fn }) => [
      fn.sum<number | null>('count').as('lines'),
      fn.sum<number | null>(fn('octet_length', ['lines'])).as('bytes'),
    ])
    .where('operation', '=', operation)
    .executeTakeFirst()
  return { lines: Number(row?.lines ?? 0), bytes: Number(row?.bytes ?? 0) }
}

/** Adds a chunk; one that is there under this number already is replaced. */
export async function putLogChunk(
  tx: Transaction<Database>,
  operation: string,
  chunk: LogChunk,
  now: Date,
): Promise<void> {
  const row = {
    count: chunk.lines.length,
    dropped: chunk.dropped,
    lines: JSON.stringify(chunk.lines),
    at: now.getTime(),
  }
  await tx
    .insertInto('log_chunks')
    .values({ operation, first: chunk.first, ...row })
    .onConflict(conflict => conflict.columns(['operation', 'first']).doUpdateSet(row))
    .execute()
}

/** Chunks from number `from` on, in order. */
export async function readLogChunks(
  db: Kysely<Database>,
  operation: string,
  from: number,
  limit: number,
): Promise<LogChunk[]> {
  const rows = await db
    .selectFrom('log_chunks')
    .selectAll()
    .where('operation', '=', operation)
    .where('first', '>=', from)
    .orderBy('first')
    .limit(limit)
    .execute()
  return rows.map(row => ({ first: row.first, lines: readTexts(row.lines), dropped: row.dropped }))
}

/** The number of the first chunk that holds one of the last `lines` lines; 0 when there are fewer. */
export async function tailStart(
  db: Kysely<Database>,
  operation: string,
  lines: number,
): Promise<{ readonly from: number; readonly skip: number }> {
  const rows = await db
    .selectFrom('log_chunks')
    .select(['first', 'count'])
    .where('operation', '=', operation)
    .orderBy('first', 'desc')
    .execute()
  let left = lines
  for (const { first, count } of rows) {
    if (count >= left) return { from: first, skip: count - left }
    left -= count
  }
  return { from: 0, skip: 0 }
}
