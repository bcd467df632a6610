import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummarySchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { type OperationRow, outcomeOf } from '../store/operations.ts'
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

/** An operation in a table of machines: what became of it, without its phases. */
export function summarise(row: OperationRow): MessageInitShape<typeof OperationSummarySchema> {
  const outcome = outcomeOf(row)
  return {
    operationId: row.id,
    machine: row.machine,
    host: row.host,
    revision: BigInt(row.revision),
    phase: Object.values(Phase).find(phase => phase === row.phase) ?? Phase.UNSPECIFIED,
    ordered: timestampFromMs(row.ordered),
    orderedBy: row.ordered_by,
    delivered: row.delivered !== null,
    ...(outcome && { outcome }),
  }
}
