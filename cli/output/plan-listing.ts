import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type OperationSummary, OperationSummarySchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { type Plan, PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import { formatBytes } from '../duration.ts'
import { paint, type Style } from './colour.ts'
import { nameOf, operationStyle, reasonOfOperation, stateOf } from './operation-listing.ts'
import { type PlainRecord, plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'
import { renderFields } from './table.ts'

export const PLAN_FIELDS = ['operationId', 'machine', 'host', 'revision', 'outcome', 'plan'] as const

/** Names of units that one line of a plan holds before it says how many more there are. */
const SHOWN_UNITS = 30

/** What a plan comes to, in a few words. */
export function modeWord(mode: PlanMode): string {
  switch (mode) {
    case PlanMode.UNSPECIFIED:
      return 'not known'
    case PlanMode.NOTHING:
      return 'nothing to do'
    case PlanMode.SWITCH:
      return 'switch'
    case PlanMode.TRIAL_BOOT:
      return 'trial boot'
    case PlanMode.REBOOT:
      return 'reboot'
    case PlanMode.REBOOT_REQUIRED:
      return 'reboot required'
    default:
      return `mode ${mode}` // one that a newer coordinator knows
  }
}

function modeStyle({ plan, ...operation }: OperationSummary): Style {
  if (!plan) return operationStyle({ ...operation })
  if (plan.mode === PlanMode.NOTHING) return 'dim'
  return plan.mode === PlanMode.SWITCH ? 'good' : 'warn'
}

/** Why a reboot is needed, each kind once; those without which the system cannot be reached are marked. */
export function rebootText({ rebootReasons }: Pick<Plan, 'rebootReasons'>): string {
  const kinds = rebootReasons.map(({ kind, key, required }) => {
    const name = key === '' ? kind : `${kind} ${key}`
    return required ? `${name}!` : name
  })
  return [...new Set(kinds)].join(', ')
}

function recordOf(operation: OperationSummary): PlainRecord {
  const whole = plainOf(OperationSummarySchema, operation)
  return Object.fromEntries(PLAN_FIELDS.map(field => [field, whole[field] ?? null]))
}

/** Plans of many hosts, one a line. */
export function planListing(): Listing<OperationSummary> {
  const of = (text: (plan: Plan) => string) => (operation: OperationSummary) =>
    operation.plan ? text(operation.plan) : ''
  const count = (names: (plan: Plan) => readonly string[]) => of(plan => String(names(plan).length))
  return {
    fields: PLAN_FIELDS,
    record: recordOf,
    empty: 'no plans',
    columns: [
      { title: 'HOST', wraps: true, text: nameOf },
      {
        title: 'MODE',
        wraps: true,
        text: operation => (operation.plan ? modeWord(operation.plan.mode) : stateOf(operation)),
        style: modeStyle,
      },
      { title: 'REBOOT', wraps: true, text: of(rebootText) },
      { title: 'STOPS', text: count(plan => plan.stops) },
      { title: 'RESTARTS', text: count(plan => plan.restarts) },
      { title: 'STARTS', wide: true, text: count(plan => plan.starts) },
      { title: 'RELOADS', wide: true, text: count(plan => plan.reloads) },
      {
        title: 'SIZE',
        text: of(plan => (plan.closureBytes === 0n ? '' : formatBytes(Number(plan.closureBytes)))),
      },
      {
        title: 'FREE',
        wide: true,
        text: of(plan => (plan.freeBytes === 0n ? '' : formatBytes(Number(plan.freeBytes)))),
      },
      { title: 'TO', wide: true, text: of(plan => plan.to) },
      {
        title: 'LOOK AT',
        wraps: true,
        text: operation =>
          operation.plan ? operation.plan.warnings.join('; ') : reasonOfOperation(operation),
        style: () => 'warn',
      },
    ],
  }
}

/** The plan of one host in full. */
export function planText(operation: OperationSummary, colour: boolean): string {
  const { plan, outcome } = operation
  const title = `${nameOf(operation)}, revision ${operation.revision}`
  if (!plan) {
    const why: [string, string, Style] = [
      title,
      [stateOf(operation), reasonOfOperation(operation)].filter(text => text !== '').join(': '),
      'bad',
    ]
    return renderFields([why], colour)
  }
  const units = (names: readonly string[]) =>
    names.length > SHOWN_UNITS
      ? `${names.slice(0, SHOWN_UNITS).join(' ')} … and ${names.length - SHOWN_UNITS} more`
      : names.join(' ')
  const size = plan.closureBytes === 0n ? '' : formatBytes(Number(plan.closureBytes))
  const free = plan.freeBytes === 0n ? '' : `, ${formatBytes(Number(plan.freeBytes))} free`
  const failed = outcome && outcome.class !== OutcomeClass.SUCCEEDED ? reasonOfOperation(operation) : ''
  return `${paint(title, 'bold', colour)}\n${renderFields(
    [
      ['Way', modeWord(plan.mode), modeStyle(operation)],
      ['From', plan.from],
      ['To', plan.to],
      ...plan.rebootReasons.map(({ kind, key, before, after, required }): [string, string, Style] => [
        'Reboot',
        `${key === '' ? kind : `${kind} ${key}`}: ${before || '-'} → ${after || '-'}; ${required ? 'cannot be reached without' : 'takes effect at the next boot'}`,
        'warn',
      ]),
      ['Stops', units(plan.stops), 'warn'],
      ['Restarts', units(plan.restarts)],
      ['Starts', units(plan.starts)],
      ['Reloads', units(plan.reloads)],
      ['Left as they are', units(plan.untouched)],
      ['Not listed', plan.leftOut > 0 ? `${plan.leftOut} more units` : ''],
      ['To fetch', size === '' ? '' : `${size}${free}`],
      ['Agent', plan.agentChanges ? 'becomes another program' : ''],
      ...plan.warnings.map((warning): [string, string, Style] => ['Look at', warning, 'warn']),
      ['Ended', failed, 'warn'],
    ],
    colour,
  )}`
}
