import {
  type PlannedChange,
  type PlannedHost,
  PlannedHostSchema,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Style } from './colour.ts'
import { ago } from './machine-listing.ts'
import { plainOf } from './plain.ts'
import { modeWord, rebootText } from './plan-listing.ts'
import type { Listing } from './show-list.ts'

export const PLANNED_FIELDS = [
  ...['host', 'cluster', 'wave', 'steps', 'drained', 'change', 'noPlan', 'version', 'nextVersion', 'waits'],
] as const

/** Units that a table names of each kind; all are told in JSON. */
const FEW = 3
const MANY = 30

/** The order of a rollout that is only thought through, with what is planned of each host. */
export function plannedListing(now: Date): Listing<PlannedHost> {
  const at = now.getTime()
  const of =
    (text: (change: PlannedChange) => string) =>
    ({ change }: PlannedHost) =>
      change ? text(change) : ''
  return {
    fields: PLANNED_FIELDS,
    record: host => plainOf(PlannedHostSchema, host),
    empty: 'no hosts',
    columns: [
      { title: 'WAVE', text: ({ wave }) => (wave === 0 ? '' : String(wave)) },
      { title: 'HOST', wraps: true, text: ({ host }) => host },
      { title: 'STEPS', wraps: true, text: ({ steps }) => steps.join(' → ') },
      { title: 'DRAINED', text: drainedText },
      { title: 'PLAN', wraps: true, text: planWords, style: planStyle },
      { title: 'REBOOT', wraps: true, text: of(rebootText), style: () => 'warn' },
      { title: 'UNITS', text: of(change => unitsText(change, FEW)) },
      { title: 'ALL UNITS', wide: true, text: of(change => unitsText(change, MANY)) },
      { title: 'KUBERNETES', text: versionText },
      { title: 'PLANNED', wide: true, text: of(change => ago(millisOf(change.at), at)) },
      { title: 'PLANNED BY', wide: true, text: of(change => change.operationId) },
      { title: 'WAITS NOW', wraps: true, text: ({ waits }) => waits.join('; ') },
    ],
  }
}

function drainedText({ drained, steps }: PlannedHost): string {
  if (drained !== undefined) return drained ? 'yes' : 'no'
  return steps.includes('drain') ? 'by its plan' : ''
}

function planWords({ change, noPlan }: PlannedHost): string {
  if (change) return modeWord(change.mode)
  return noPlan === '' ? '' : `none: ${noPlan}`
}

function planStyle({ change }: PlannedHost): Style {
  return change ? 'plain' : 'warn'
}

/** What happens to units, each kind with so many of its names. */
function unitsText(change: PlannedChange, most: number): string {
  const { stops, starts, restarts, reloads, moreUnits, kubernetesRestarts } = change
  const kinds: [string, readonly string[]][] = [
    ['stops', stops],
    ['restarts', restarts],
    ['starts', starts],
    ['reloads', reloads],
  ]
  const texts = kinds.flatMap(([word, names]) => {
    if (names.length === 0) return []
    const more = names.length > most ? ` +${names.length - most}` : ''
    return [`${word} ${names.slice(0, most).join(' ')}${more}`]
  })
  if (moreUnits > 0) texts.push(`${moreUnits} more`)
  if (kubernetesRestarts) texts.push('restarts Kubernetes')
  return texts.join('; ')
}

function versionText({ version, nextVersion }: PlannedHost): string {
  if (nextVersion === '') return version
  return version === nextVersion ? version : `${version || '?'} → ${nextVersion}`
}

/** Remarks on an order for people: what it does not tell. */
export function plannedRemarks(order: readonly PlannedHost[], notThoughtThrough: number): readonly string[] {
  const unplanned = order.filter(({ noPlan }) => noPlan !== '')
  const remarks: string[] = []
  if (unplanned.length > 0) {
    const names = unplanned.slice(0, 5).map(({ host }) => host)
    const which = unplanned.length > names.length ? `${names.join(' ')} …` : names.join(' ')
    const are = unplanned.length === 1 ? 'host has' : 'hosts have'
    remarks.push(`${unplanned.length} ${are} no plan: \`muster plan ${which}\` makes it, and moves nothing`)
  }
  if (notThoughtThrough > 0) {
    remarks.push(
      `the order is not whole: the turn of ${notThoughtThrough} hosts is too far away to be thought through`,
    )
  }
  return remarks
}
