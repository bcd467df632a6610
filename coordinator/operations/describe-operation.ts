import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import { Phase, type SignedOutcome } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummarySchema } from '../../shared/gen/muster/v1/order_pb.ts'
import type { Plan } from '../../shared/gen/muster/v1/plan_pb.ts'
import { type OperationRow, outcomeOf, phasesOf, planOf, signedOutcomeOf } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'

type OperationSummaryInit = MessageInitShape<typeof OperationSummarySchema>

/** Operations as operators are shown them, in the order of the rows; in full also with plan and signature, which may be long. */
export async function describeOperations(
  db: Kysely<Database>,
  rows: readonly OperationRow[],
  detail: 'brief' | 'full' = 'brief',
): Promise<OperationSummaryInit[]> {
  const phases = await phasesOf(
    db,
    rows.map(row => row.id),
  )
  return rows.map(row => ({
    ...summarise(row),
    phases: phases.get(row.id) ?? [],
    ...(detail === 'full' && whole(row)),
  }))
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
    action: row.action,
    badlySigned: row.badly_signed === 1,
    ...(row.confirmed !== null && { confirmed: timestampFromMs(row.confirmed) }),
    ...(row.not_before > 0 && { notBefore: timestampFromMs(row.not_before) }),
    retryOf: row.retry_of,
    ...(row.action === 'rollback' && {
      rollback: { operationId: row.rollback_to, before: row.rollback_before === 1 },
    }),
  }
}

function whole(row: OperationRow): { plan?: Plan; signedOutcome?: SignedOutcome } {
  const plan = planOf(row)
  const signedOutcome = signedOutcomeOf(row)
  return { ...(plan && { plan }), ...(signedOutcome && { signedOutcome }) }
}
