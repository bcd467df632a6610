import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Transaction } from 'kysely'
import { type Outcome, OutcomeSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { recordEvent } from '../store/events.ts'
import { advanceOperation, type OperationRow } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'
import { type OperationInput, type OperationState, type Transition, transition } from './transition.ts'
import { whatWasOrdered } from './what-was-ordered.ts'

/** A row as transitions see it. */
export function stateOf(row: OperationRow): OperationState {
  return {
    expires: row.expires,
    delivered: row.delivered ?? undefined,
    phase: row.phase,
    outcomeClass: row.outcome_class,
    notBefore: row.not_before,
    confirmed: row.confirmed ?? undefined,
  }
}

/** Makes one transition of an operation and writes it, with the event that belongs to its end. */
export async function moveOperation(
  tx: Transaction<Database>,
  row: OperationRow,
  input: OperationInput,
  /** The node's own outcome, where the input is a report that has one. */
  reported: Outcome | undefined,
  now: Date,
  /** Bytes of the SignedOutcome that goes with it, once it was verified. */
  signed?: Uint8Array,
): Promise<Transition> {
  const result = transition(stateOf(row), input, now.getTime())
  if (result.kind === 'same') return result
  const { state, givenUp } = result
  const outcome = givenUp
    ? create(OutcomeSchema, { ...givenUp, ended: timestampFromDate(now) })
    : state.outcomeClass === 0
      ? undefined
      : reported
  const moved = await advanceOperation(tx, row.id, {
    delivered: state.delivered ?? null,
    phase: state.phase,
    confirmed: state.confirmed ?? null,
    outcome,
    signed: outcome === reported ? signed : undefined,
    nowMs: now.getTime(),
  })
  if (!moved) throw new Error(`operation ${row.id} got its outcome within the same transaction`)
  if (outcome) {
    await recordEvent(tx, {
      at: now,
      class: 'operation',
      machine: row.machine,
      host: row.host,
      reason: `operation ${row.id} (${whatWasOrdered(row)}): ${outcomeName(outcome.class)}: ${outcome.reason}`,
      actor: givenUp ? 'coordinator' : row.machine,
    })
  }
  return result
}
