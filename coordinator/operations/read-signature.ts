import { equals, toBinary } from '@bufbuild/protobuf'
import type { Transaction } from 'kysely'
import {
  type OperationReport,
  OutcomeSchema,
  SignedOutcomeSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { verifyOutcome } from '../../shared/outcome/signed-outcome.ts'
import { findMachine } from '../store/machines.ts'
import { annotateOperation, type OperationRow } from '../store/operations.ts'
import { recordSeldom } from '../store/seldom.ts'
import type { Database } from '../store/tables.ts'

/**
 * The signature that goes with a reported outcome, when it is the machine's own over that very outcome. One that is not is
 * shown and not kept: the outcome counts as unsigned.
 */
export async function readSignature(
  tx: Transaction<Database>,
  row: OperationRow,
  report: OperationReport,
  now: Date,
): Promise<Uint8Array | undefined> {
  if (!report.signedOutcome) return undefined
  const machine = await findMachine(tx, row.machine)
  const fault = machine ? faultIn(machine.public_key, report) : 'the machine is not known here'
  if (fault === undefined) return toBinary(SignedOutcomeSchema, report.signedOutcome)
  await annotateOperation(tx, row.id, { badly_signed: 1 })
  const reason = `operation ${row.id}: the signature on its outcome is not good: ${fault}`
  await recordSeldom(tx, 'unsigned-outcome', row.machine, now, reason)
  return undefined
}

/** What is wrong with the signature of a report; undefined: nothing. */
export function faultIn(publicKey: Uint8Array, report: OperationReport): string | undefined {
  const { signedOutcome, outcome } = report
  if (!signedOutcome || !outcome) return 'there is none'
  const verdict = verifyOutcome(publicKey, signedOutcome)
  if (verdict.kind === 'refused') return verdict.reason
  const { statement } = verdict
  if (statement.operationId !== report.operationId) {
    return `it speaks of operation ${statement.operationId.slice(0, 64)}`
  }
  if (statement.revision !== report.revision || statement.manifestDigest !== report.manifestDigest) {
    return `it speaks of revision ${statement.revision}`
  }
  if (!statement.outcome || !equals(OutcomeSchema, statement.outcome, outcome)) {
    return 'it is over another outcome than the one reported'
  }
  return undefined
}
