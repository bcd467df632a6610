import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type OperationSummary, OperationSummarySchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { outcomeName, phaseName } from '../../shared/operation-names.ts'
import { millisOf } from '../../shared/time.ts'
import { formatDuration } from '../duration.ts'
import { isGood } from '../outcome-exit.ts'
import type { Style } from './colour.ts'
import { ago, shortId } from './machine-listing.ts'
import { plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const OPERATION_FIELDS = [
  'operationId',
  'machine',
  'host',
  'revision',
  'action',
  'phase',
  'outcome',
  'ordered',
  'orderedBy',
  'delivered',
  'phases',
  'plan',
  'signedOutcome',
  'badlySigned',
  'confirmed',
  'notBefore',
  'retryOf',
  'rollback',
] as const

export function nameOf(operation: OperationSummary): string {
  return operation.host || shortId(operation.machine)
}

/** The state in a few words: the outcome, or the phase that runs. */
export function stateOf({ outcome, phase, delivered, phases, notBefore }: OperationSummary): string {
  if (outcome) {
    const refusal = outcome.refusal === '' ? '' : ` (${outcome.refusal})`
    return `${outcomeName(outcome.class)}${refusal}`
  }
  if (phases.length === 0) return delivered ? 'delivered' : notBefore ? 'waits for its time' : 'ordered'
  return phaseName(phase)
}

export function operationStyle({ outcome }: OperationSummary): Style {
  if (!outcome) return 'plain'
  if (outcome.class === OutcomeClass.SUCCEEDED) return 'good'
  return isGood(outcome.class) ? 'warn' : 'bad'
}

/** What was simulated must be seen wherever the outcome is. */
export function reasonOfOperation({ outcome }: OperationSummary): string {
  if (!outcome) return ''
  const simulated = outcome.simulated.length > 0 ? `simulated: ${outcome.simulated.join(', ')}` : ''
  const cause =
    outcome.firstCause === OutcomeClass.UNSPECIFIED ? '' : `first cause: ${outcomeName(outcome.firstCause)}`
  return [outcome.reason, cause, simulated].filter(text => text !== '').join('; ')
}

/** What was ordered, for people: "apply revision 7", "rollback to before 0k3…", "reboot". */
export function orderText({ action, revision, rollback }: OperationSummary): string {
  if (rollback) return `rollback to ${rollback.before ? 'before ' : ''}${rollback.operationId}`
  return revision > 0n ? `${action} revision ${revision}` : action
}

/** How long it ran, or has been running. */
export function tookMs(operation: OperationSummary, now: number): number | undefined {
  const start = millisOf(operation.ordered)
  return start === undefined ? undefined : (millisOf(operation.outcome?.ended) ?? now) - start
}

export function operationListing(now: Date): Listing<OperationSummary> {
  const at = now.getTime()
  return {
    fields: OPERATION_FIELDS,
    record: operation => plainOf(OperationSummarySchema, operation),
    empty: 'no operations',
    columns: [
      { title: 'OPERATION', text: operation => operation.operationId },
      { title: 'HOST', wraps: true, text: nameOf },
      { title: 'MACHINE', wide: true, text: operation => shortId(operation.machine) },
      { title: 'ACTION', text: operation => operation.action },
      { title: 'REVISION', text: operation => (operation.revision > 0n ? String(operation.revision) : '') },
      { title: 'STATE', wraps: true, text: stateOf, style: operationStyle },
      { title: 'AGE', text: operation => ago(millisOf(operation.ordered), at) },
      {
        title: 'TOOK',
        text: operation => {
          const ms = operation.outcome ? tookMs(operation, at) : undefined
          return ms === undefined ? '' : formatDuration(ms)
        },
      },
      { title: 'BY', wide: true, text: operation => operation.orderedBy },
      { title: 'REASON', wraps: true, text: reasonOfOperation },
    ],
  }
}
