import type { ClosureSize } from './closure-size.ts'
import type { Plan } from './make-plan.ts'
import type { Bytes } from './plan-space.ts'
import type { RebootReason } from './reboot-reasons.ts'
import type { UnitAction, UnitChange, UnitReason } from './unit-changes.ts'

const ACTIONS: readonly (readonly [UnitAction, string])[] = [
  ['stop', 'stops'],
  ['restart', 'restarts'],
  ['reload', 'reloads'],
  ['start', 'starts'],
  ['keep', 'keeps running, though changed'],
]

const REASONS: Readonly<Record<UnitReason, string>> = {
  changed: '',
  removed: 'removed',
  masked: 'masked',
  new: 'new',
  stopped: 'was stopped',
  'runs-again': 'runs at every switch',
  follows: 'with',
  'by-socket': 'its socket starts it again',
  'applied-in-place': 'applied in place',
  'by-the-operation': 'container runtime, by the operation after the switch',
}

const MAX_LINE_UNITS = 200

/** A plan in lines for people. Names come from unit files: who shows them escapes what a terminal would obey. */
export function describePlan(plan: Plan): string[] {
  if (plan.unchanged) return [`${plan.target} runs already and is the boot default: nothing to do`]
  return [
    `target ${plan.target}`,
    `current ${plan.current.kind === 'value' ? plan.current.value : plan.current.kind}`,
    ...plan.problems.map(({ class: kind, reason }) => `refused (${kind}): ${reason}`),
    ...rebootLines(plan),
    ...ACTIONS.flatMap(([action, words]) => unitLine(plan.units.changes, action, words)),
    ...(plan.units.changes.length === 0 && plan.units.unknown.length === 0 ? ['no unit changes'] : []),
    closureLine(plan.closure),
    ...spaceLines(plan),
    ...plan.warnings.map(({ kind, text }) => `note (${kind}): ${text}`),
  ]
}

function rebootLines({ reboot }: Plan): string[] {
  if (reboot.reasons.length === 0) return reboot.unknown.length === 0 ? ['needs no reboot'] : []
  const head = reboot.required
    ? 'can only be reached by a reboot'
    : 'takes effect as a whole only after a reboot'
  return [`${head}:`, ...reboot.reasons.map(reason => `  ${reasonText(reason)}`)]
}

function reasonText({ kind, key, before, after, required }: RebootReason): string {
  const change = `${key === '' ? kind : `${kind} ${key}`}: ${before || 'none'} -> ${after || 'none'}`
  return required ? `${change} (a switch refuses this)` : change
}

function unitLine(changes: readonly UnitChange[], action: UnitAction, words: string): string[] {
  const units = changes.filter(change => change.action === action)
  if (units.length === 0) return []
  const named = units.slice(0, MAX_LINE_UNITS).map(unitText).join(', ')
  const more = units.length > MAX_LINE_UNITS ? ` and ${units.length - MAX_LINE_UNITS} more` : ''
  return [`${words}: ${named}${more}`]
}

function unitText({ unit, reason, through }: UnitChange): string {
  const why = reason === 'follows' && through !== undefined ? `with ${through}` : REASONS[reason]
  return why === '' ? unit : `${unit} (${why})`
}

function closureLine(size: ClosureSize): string {
  if (size.kind === 'unknown') return `closure: size unknown (${size.why})`
  const all = `${inUnits(size.bytes)} in ${size.paths} paths`
  return `closure: ${all}, of them ${inUnits(size.newBytes)} in ${size.newPaths} paths not in the running system`
}

function spaceLines({ space: { store, boot } }: Plan): string[] {
  const lines = [`free on ${store.path}: ${amount(store.free)}`]
  if (boot) {
    lines.push(
      `free on ${boot.place.mountPoint} (${boot.place.loader}): ${amount(boot.free)}, needs ${amount(boot.need)}`,
    )
  }
  return lines
}

function amount(bytes: Bytes): string {
  return bytes.kind === 'bytes' ? inUnits(bytes.bytes) : `unknown (${bytes.why})`
}

/** Bytes in binary units, to one digit. */
export function inUnits(bytes: number): string {
  const names = ['KiB', 'MiB', 'GiB', 'TiB']
  if (bytes < 1024) return `${bytes} bytes`
  const power = Math.min(names.length, Math.floor(Math.log2(bytes) / 10))
  return `${(bytes / 1024 ** power).toFixed(1)} ${names[power - 1]}`
}
