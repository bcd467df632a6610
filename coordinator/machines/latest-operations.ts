import type { Kysely } from 'kysely'
import type { OperationRow } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'

/** The operation of each machine that was ordered last; at most 500 machines at a time. */
export async function latestOperations(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<ReadonlyMap<string, OperationRow>> {
  if (machines.length === 0) return new Map()
  if (machines.length > 500) throw new RangeError('latestOperations: at most 500 machines at a time')
  const newest = db
    .selectFrom('operations')
    .select(({ fn }) => ['machine as of', fn.max('ordered').as('newest')])
    .where('machine', 'in', [...machines])
    .groupBy('machine')
    .as('latest')
  const rows = await db
    .selectFrom('operations')
    .innerJoin(newest, join =>
      join.onRef('latest.of', '=', 'operations.machine').onRef('latest.newest', '=', 'operations.ordered'),
    )
    .selectAll('operations')
    .orderBy('operations.id')
    .execute()
  return new Map(rows.map(row => [row.machine, row]))
}
