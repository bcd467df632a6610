import { compareParts, type PartKind, type SystemParts } from '../plan/reboot-reasons.ts'

export interface RebootQuestion {
  /** What runs since the boot. */
  readonly booted: SystemParts
  /** What the next boot starts. */
  readonly next: SystemParts
  /** Store path of what was switched to last. */
  readonly current: string
}

export interface RebootAnswer {
  readonly reasons: readonly string[]
  /** Parts that could not be compared. An empty list of reasons means "none" only when this is empty too. */
  readonly unknown: readonly string[]
}

/** Why a reboot is wanted of a machine as it stands: a list, because several can hold at once. */
export function rebootReasons({ booted, next, current }: RebootQuestion): RebootAnswer {
  const { differences, unknown } = compareParts(booted, next)
  const reasons = differences.map(({ kind, key }) => (key === '' ? factName(kind) : `${kind}:${key}`))
  // A generation set for the next boot and not switched to. When the next boot brings back what was booted, somebody
  // only tries another system (`test`), and nothing waits for a reboot.
  if (next.path !== current && next.path !== booted.path) reasons.push('generation')
  return { reasons, unknown: unknown.map(factName) }
}

/** The names that the facts have for parts. */
function factName(kind: PartKind): string {
  return FACT_NAMES.get(kind) ?? kind
}

const FACT_NAMES: ReadonlyMap<PartKind, string> = new Map([
  ['kernel-modules', 'modules'],
  ['kernel-params', 'params'],
  ['inhibitor', 'inhibitors'],
])
