import type { Kysely } from 'kysely'
import type { OperationRow } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'

/** What looks at a machine, or says what it obeys, and changes nothing that runs there. */
const BESIDE = ['plan', 'hold', 'resume', 'retry'] as const

/**
 * The operation of each machine that tells how it stands: the one that was ordered last of those that are under way or changed something, or
 * where there is none the last of all. At most 500 machines at a time.
 */
export async function latestOperations(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<ReadonlyMap<string, OperationRow>> {
  if (machines.length === 0) return new Map()
  if (machines.length > 500) throw new RangeError('latestOperations: at most 500 machines at a time')
  const telling = await newestOf(db, machines, true)
  const rest = machines.filter(machine => !telling.has(machine))
  return rest.length === 0 ? telling : new Map([...telling, ...(await newestOf(db, rest, false))])
}

async function newestOf(
  db: Kysely<Database>,
  machines: readonly string[],
  telling: boolean,
): Promise<ReadonlyMap<string, OperationRow>> {
  const rows = await db
    .with('told', from =>
      from
        .selectFrom('operations')
        .selectAll()
        .where('machine', 'in', [...machines])
        .$if(telling, query =>
          query.where(({ eb, or }) => or([eb('outcome_class', '=', 0), eb('action', 'not in', BESIDE)])),
        ),
    )
    .selectFrom('told')
    .innerJoin(
      from =>
        from
          .selectFrom('told')
          .select(({ fn }) => ['machine as of', fn.max('ordered').as('newest')])
          .groupBy('machine')
          .as('latest'),
      join => join.onRef('latest.of', '=', 'told.machine').onRef('latest.newest', '=', 'told.ordered'),
    )
    .selectAll('told')
    .orderBy('told.id')
    .execute()
  return new Map(rows.map(row => [row.machine, row]))
}
