import type { Kysely, Transaction } from 'kysely'
import { notePruned, REACHED, REACHES } from './operations.ts'
import type { Database } from './tables.ts'

/*
 * Deletions of the past, each bounded by `limit` rows, so that no transaction keeps the store from others for long. Each
 * says how many rows it took; fewer than the limit means that nothing is left.
 */

export async function deleteOldEvents(
  tx: Transaction<Database>,
  input: { readonly upTo: number; readonly beforeMs: number; readonly limit: number },
): Promise<number> {
  // From the oldest without a gap, and never the newest: what is left must be a whole piece of the chain.
  const young = await tx
    .selectFrom('events')
    .select('id')
    .orderBy('id')
    .where('id', '>', input.upTo)
    .where('at', '>=', input.beforeMs)
    .limit(1)
    .executeTakeFirst()
  const newest = await tx.selectFrom('events').select('id').orderBy('id', 'desc').limit(1).executeTakeFirst()
  const keepFrom = Math.min(young?.id ?? Number.MAX_SAFE_INTEGER, newest?.id ?? 0)
  const ids = await tx
    .selectFrom('events')
    .select('id')
    .orderBy('id')
    .where('id', '<', keepFrom)
    .limit(input.limit)
    .execute()
  await deleteIn(ids, some =>
    tx
      .deleteFrom('events')
      .where(
        'id',
        'in',
        some.map(row => row.id),
      )
      .execute(),
  )
  return ids.length
}

export async function deleteOldRequests(
  tx: Transaction<Database>,
  input: { readonly beforeMs: number; readonly limit: number },
): Promise<number> {
  const rows = await tx
    .selectFrom('requests')
    .select('id')
    .where('at', '<', input.beforeMs)
    .limit(input.limit)
    .execute()
  await deleteIn(rows, some =>
    tx
      .deleteFrom('requests')
      .where(
        'id',
        'in',
        some.map(row => row.id),
      )
      .execute(),
  )
  return rows.length
}

/** Facts that newer ones of the same machine followed. */
export async function deleteOldFacts(
  tx: Transaction<Database>,
  input: { readonly beforeMs: number; readonly limit: number },
): Promise<number> {
  const rows = await tx
    .selectFrom('facts')
    .select(['machine', 'at'])
    .where('at', '<', input.beforeMs)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('facts as newer')
          .select('newer.at')
          .whereRef('newer.machine', '=', 'facts.machine')
          .whereRef('newer.at', '>', 'facts.at'),
      ),
    )
    .limit(input.limit)
    .execute()
  for (const { machine, at } of rows) {
    await tx.deleteFrom('facts').where('machine', '=', machine).where('at', '=', at).execute()
  }
  return rows.length
}

/**
 * Ended operations with their phases and output, oldest first. The newest of each machine stays, and the newest by which it got to a system:
 * that one says what the machine should run, however long ago it was.
 */
export async function deleteOldOperations(
  tx: Transaction<Database>,
  input: { readonly beforeMs: number; readonly limit: number },
): Promise<number> {
  const rows = await tx
    .selectFrom('operations')
    .select(['id', 'ended'])
    .where('outcome_class', '>', 0)
    .where('ended', '<', input.beforeMs)
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('operations as newer')
          .select('newer.id')
          .whereRef('newer.machine', '=', 'operations.machine')
          .whereRef('newer.ordered', '>', 'operations.ordered'),
      ),
    )
    .where(({ or, not, exists, selectFrom, eb }) =>
      or([
        not(
          eb('outcome_class', 'in', [...REACHED]).and(
            or([eb('action', 'in', [...REACHES]), eb('action', 'is', null)]),
          ),
        ),
        exists(
          selectFrom('operations as later')
            .select('later.id')
            .whereRef('later.machine', '=', 'operations.machine')
            .whereRef('later.ordered', '>', 'operations.ordered')
            .where('later.outcome_class', 'in', [...REACHED])
            .where(inner =>
              inner.or([inner('later.action', 'in', [...REACHES]), inner('later.action', 'is', null)]),
            ),
        ),
      ]),
    )
    .orderBy('ordered')
    .limit(input.limit)
    .execute()
  if (rows.length > 0) await notePruned(tx, Math.max(...rows.map(({ ended }) => ended ?? 0)))
  await deleteIn(rows, async some => {
    const ids = some.map(row => row.id)
    await tx.deleteFrom('operation_phases').where('operation', 'in', ids).execute()
    await tx.deleteFrom('log_chunks').where('operation', 'in', ids).execute()
    await tx.deleteFrom('operations').where('id', 'in', ids).execute()
  })
  return rows.length
}

/** The output of one operation, in pieces of at most `limit` chunks. */
export async function deleteLog(
  tx: Transaction<Database>,
  operation: string,
  limit: number,
): Promise<number> {
  const rows = await tx
    .selectFrom('log_chunks')
    .select('first')
    .where('operation', '=', operation)
    .orderBy('first')
    .limit(limit)
    .execute()
  const last = rows.at(-1)
  if (last) {
    await tx
      .deleteFrom('log_chunks')
      .where('operation', '=', operation)
      .where('first', '<=', last.first)
      .execute()
  }
  return rows.length
}

/** A page of operations that have output, in order of their ids, with how much and from when. */
export async function pageLogs(
  db: Kysely<Database>,
  after: string,
  limit: number,
): Promise<{ operation: string; bytes: number; atMs: number; ended: boolean }[]> {
  const rows = await db
    .selectFrom('log_chunks')
    .leftJoin('operations', 'operations.id', 'log_chunks.operation')
    .select(({ fn }) => [
      'log_chunks.operation',
      fn.sum<number>(fn('octet_length', ['log_chunks.lines'])).as('bytes'),
      fn.max('log_chunks.at').as('at'),
      fn.max('operations.outcome_class').as('outcome'),
    ])
    .where('log_chunks.operation', '>', after)
    .groupBy('log_chunks.operation')
    .orderBy('log_chunks.operation')
    .limit(limit)
    .execute()
  return rows.map(row => ({
    operation: row.operation,
    bytes: Number(row.bytes),
    atMs: Number(row.at),
    // Output whose operation is gone belongs to nobody.
    ended: row.outcome === null || Number(row.outcome) > 0,
  }))
}

export async function eventRange(
  db: Kysely<Database>,
): Promise<{ readonly oldest: number; readonly newest: number } | undefined> {
  const row = await db
    .selectFrom('events')
    .select(({ fn }) => [fn.min('id').as('oldest'), fn.max('id').as('newest')])
    .executeTakeFirst()
  const oldest = Number(row?.oldest ?? 0)
  return oldest > 0 ? { oldest, newest: Number(row?.newest) } : undefined
}

export async function countOperations(db: Kysely<Database>): Promise<number> {
  const row = await db
    .selectFrom('operations')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

const CHUNK = 500

async function deleteIn<T>(
  rows: readonly T[],
  remove: (some: readonly T[]) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < rows.length; at += CHUNK) await remove(rows.slice(at, at + CHUNK))
}
