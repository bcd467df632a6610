import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummarySchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { type OperationRow, outcomeOf, phasesOf } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'

type OperationSummaryInit = MessageInitShape<typeof OperationSummarySchema>

/** Operations as operators are shown them, in the order of the rows. */
export async function describeOperations(
  db: Kysely<Database>,
  rows: readonly OperationRow[],
): Promise<OperationSummaryInit[]> {
  const phases = await phasesOf(
    db,
    rows.map(row => row.id),
  )
  return rows.map(row => ({ ...summarise(row), phases: phases.get(row.id) ?? [] }))
}

/** An operation in a table of machines: what became of it, without its phases. */
export function summarise(row: OperationRow): OperationSummaryInit {
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
