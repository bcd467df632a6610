import type { Part } from './part.ts'

/** The parts of one system (a toplevel in the store) that a switch does not put in place. */
export interface SystemParts {
  /** The toplevel's store path. */
  readonly path: string
  readonly kernel: Part
  readonly initrd: Part
  readonly modules: Part
  readonly params: Part
  readonly initInterface: Part
  readonly systemd: Part
  /** The JSON text of `switch-inhibitors`. */
  readonly inhibitors: Part
  /** The JSON text of `reboot-triggers`; absent where nobody asks for it. */
  readonly triggers?: Part
}

/** A part that differs between two systems. */
export interface PartDifference {
  readonly kind: PartKind
  /** Of an inhibitor or a trigger; else empty. */
  readonly key: string
  /** The values as they stand in the systems; empty: not there. */
  readonly before: string
  readonly after: string
}

export type PartKind =
  | 'kernel'
  | 'initrd'
  | 'kernel-modules'
  | 'kernel-params'
  | 'init-interface'
  | 'systemd'
  | 'inhibitor'
  | 'reboot-trigger'

export interface PartsComparison {
  readonly differences: readonly PartDifference[]
  /** Parts that could not be compared. No difference means "the same" only when this is empty too. */
  readonly unknown: readonly PartKind[]
}

export interface RebootReason extends Omit<PartDifference, 'kind'> {
  /** `no-current-system`: a switch takes a missing /run/current-system for another init interface. */
  readonly kind: PartKind | 'no-current-system'
  /** A switch refuses it. Otherwise a switch works, and this part waits for the next boot. */
  readonly required: boolean
}

export interface RebootReasons {
  readonly reasons: readonly RebootReason[]
  /** Parts that could not be compared, and "booted-system" when nobody knows what was booted. */
  readonly unknown: readonly (PartKind | 'booted-system')[]
  /** The target cannot be switched to, only booted. */
  readonly required: boolean
}

const PARTS = [
  ['kernel', 'kernel'],
  ['initrd', 'initrd'],
  ['kernel-modules', 'modules'],
  ['kernel-params', 'params'],
  ['init-interface', 'initInterface'],
  ['systemd', 'systemd'],
] as const

/** Parts whose difference the switch program itself refuses, comparing with what was switched to last. */
const REFUSED: readonly string[] = ['init-interface', 'inhibitor']
const MAX_KEYS = 32
const MAX_VALUE = 200

/**
 * Compares two systems part by part. By store paths and not by versions, since the same version built differently is
 * another kernel.
 */
export function compareParts(before: SystemParts, after: SystemParts): PartsComparison {
  const differences: PartDifference[] = []
  const unknown: PartKind[] = []
  if (before.path === after.path) return { differences, unknown }
  for (const [kind, key] of PARTS) {
    const [a, b] = [before[key], after[key]]
    if (a.kind === 'unknown' || b.kind === 'unknown') unknown.push(kind)
    else if (a.kind !== b.kind || (a.kind === 'value' && b.kind === 'value' && a.value !== b.value)) {
      differences.push({ kind, key: '', before: shown(a), after: shown(b) })
    }
  }
  for (const [kind, a, b] of [
    ['inhibitor', before.inhibitors, after.inhibitors],
    ['reboot-trigger', before.triggers ?? MISSING, after.triggers ?? MISSING],
  ] as const) {
    const changed = changedKeys(a, b)
    if (changed === undefined) unknown.push(kind)
    else differences.push(...changed.map(values => ({ kind, ...values })))
  }
  return { differences, unknown }
}

export interface RebootQuestion {
  /** What runs since the boot. */
  readonly booted: SystemParts
  /** What was switched to last; undefined when nobody can tell, which a switch refuses. */
  readonly current: SystemParts | undefined
  readonly target: SystemParts
}

/** Why the target needs a reboot: to be reached at all, or to be in effect as a whole. */
export function rebootReasons({ booted, current, target }: RebootQuestion): RebootReasons {
  const atBoot = compareParts(booted, target)
  if (current === undefined) {
    const missing: RebootReason = {
      kind: 'no-current-system',
      key: '',
      before: '',
      after: target.path,
      required: true,
    }
    return { reasons: [missing, ...waiting(atBoot)], unknown: atBoot.unknown, required: true }
  }
  const refused = compareParts(current, target)
  const only = refused.differences
    .filter(({ kind }) => REFUSED.includes(kind))
    .map((difference): RebootReason => ({ ...difference, required: true }))
  const unknown = new Set([
    ...refused.unknown.filter(name => REFUSED.includes(name)),
    ...atBoot.unknown.filter(name => !REFUSED.includes(name)),
  ])
  return { reasons: [...only, ...waiting(atBoot)], unknown: [...unknown], required: only.length > 0 }
}

function waiting({ differences }: PartsComparison): RebootReason[] {
  return differences
    .filter(({ kind }) => !REFUSED.includes(kind))
    .map(difference => ({ ...difference, required: false }))
}

const MISSING: Part = { kind: 'missing' }

function shown(part: Part): string {
  return part.kind === 'value' ? part.value.slice(0, MAX_VALUE) : ''
}

/** Keys that both files have with different values, as NixOS itself compares them; undefined: one is no such file. */
function changedKeys(a: Part, b: Part): Omit<PartDifference, 'kind'>[] | undefined {
  const before = entriesOf(a)
  const after = entriesOf(b)
  if (before === undefined || after === undefined) return undefined
  const changed: Omit<PartDifference, 'kind'>[] = []
  for (const [key, old] of before) {
    const now = after.get(key)
    if (now !== undefined && now !== old) {
      changed.push({ key, before: old.slice(0, MAX_VALUE), after: now.slice(0, MAX_VALUE) })
    }
  }
  return changed.sort((x, y) => (x.key < y.key ? -1 : 1)).slice(0, MAX_KEYS)
}

/** Systems from before such files existed have none, and so no keys. */
function entriesOf(part: Part): ReadonlyMap<string, string> | undefined {
  if (part.kind === 'unknown') return undefined
  if (part.kind === 'missing') return new Map()
  try {
    const json: unknown = JSON.parse(part.value)
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined
    return new Map(
      Object.entries(json)
        .filter(([key]) => /^[A-Za-z0-9._-]{1,64}$/.test(key))
        .map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
    )
  } catch {
    return undefined // not JSON: nobody can tell what it says
  }
}
