/** What was read of a system's file: its text or link target, that it is not there, or that nobody could tell. */
export type Part =
  | { readonly kind: 'value'; readonly value: string }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unknown' }

/** The parts of one system (a toplevel in the store) that only a boot puts in place. */
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
}

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

const PARTS = [
  ['kernel', 'kernel'],
  ['initrd', 'initrd'],
  ['modules', 'modules'],
  ['params', 'params'],
  ['init-interface', 'initInterface'],
  ['systemd', 'systemd'],
] as const

/**
 * Why a reboot is wanted: a list, because several can hold at once. Parts are compared by their store paths and not by
 * versions, since the same version built differently is another kernel.
 */
export function rebootReasons({ booted, next, current }: RebootQuestion): RebootAnswer {
  const reasons: string[] = []
  const unknown: string[] = []
  if (booted.path !== next.path) {
    for (const [name, key] of PARTS) {
      const verdict = differ(booted[key], next[key])
      if (verdict === undefined) unknown.push(name)
      else if (verdict) reasons.push(name)
    }
    const inhibitors = changedInhibitors(booted.inhibitors, next.inhibitors)
    if (inhibitors === undefined) unknown.push('inhibitors')
    else reasons.push(...inhibitors.map(key => `inhibitor:${key}`))
  }
  // A generation set for the next boot and not switched to. When the next boot brings back what was booted, somebody
  // only tries another system (`test`), and nothing waits for a reboot.
  if (next.path !== current && next.path !== booted.path) reasons.push('generation')
  return { reasons, unknown }
}

function differ(a: Part, b: Part): boolean | undefined {
  if (a.kind === 'unknown' || b.kind === 'unknown') return undefined
  if (a.kind === 'missing' || b.kind === 'missing') return a.kind !== b.kind
  return a.value !== b.value
}

/** Keys that both systems have with different values, as NixOS itself compares them. */
function changedInhibitors(a: Part, b: Part): string[] | undefined {
  const before = inhibitorsOf(a)
  const after = inhibitorsOf(b)
  if (before === undefined || after === undefined) return undefined
  return Array.from(before)
    .filter(([key, value]) => after.has(key) && after.get(key) !== value)
    .map(([key]) => key)
    .sort()
    .slice(0, 32)
}

/** Systems from before inhibitors existed have no such file, and so none. */
function inhibitorsOf(part: Part): ReadonlyMap<string, string> | undefined {
  if (part.kind === 'unknown') return undefined
  if (part.kind === 'missing') return new Map()
  try {
    const json: unknown = JSON.parse(part.value)
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return undefined
    return new Map(
      Object.entries(json)
        .filter(([key]) => /^[A-Za-z0-9._-]{1,64}$/.test(key))
        .map(([key, value]) => [key, JSON.stringify(value)]),
    )
  } catch {
    return undefined // not JSON: nobody can tell what it inhibits
  }
}
