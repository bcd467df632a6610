/** How long certificates last, in milliseconds. X.509 counts whole seconds. */
export interface Lifetimes {
  readonly machineMs: number
  /** An operator's, unless asked otherwise. */
  readonly operatorMs: number
  /** The listeners' own; made anew at two thirds of it. */
  readonly serverMs: number
  readonly authorityMs: number
}

const DAY_MS = 86_400_000

export const DEFAULT_LIFETIMES: Lifetimes = {
  machineMs: 30 * DAY_MS,
  operatorMs: 90 * DAY_MS,
  serverMs: 30 * DAY_MS,
  authorityMs: 3650 * DAY_MS,
}

/** The longest life an operator's certificate may have. */
export const MAX_OPERATOR_MS = 366 * DAY_MS

/** Certificates begin this long before they are made, for machines whose clock is behind. */
export const BACKDATE_MS = DAY_MS

/** The lifetimes to use. Throws on one that no certificate can have. */
export function completeLifetimes(given: Partial<Lifetimes>): Lifetimes {
  const lifetimes = { ...DEFAULT_LIFETIMES, ...given }
  for (const [name, ms] of Object.entries(lifetimes)) {
    if (!Number.isFinite(ms) || ms < 1000)
      throw new RangeError(`lifetimes.${name}: wanted at least 1000, got ${ms}`)
  }
  if (lifetimes.operatorMs > MAX_OPERATOR_MS) {
    throw new RangeError(`lifetimes.operatorMs: wanted at most ${MAX_OPERATOR_MS} (366 days)`)
  }
  return lifetimes
}

/** An authority at its end makes certificates that are due at once; they are still not made in a tight loop. */
const SHORTEST_RENEWAL_MS = 500
const EXPIRED_RENEWAL_MS = 60_000

/** When a certificate made at `made` is to be replaced: at two thirds of what it has before it. */
export function renewalTime(made: Date, notAfter: Date): Date {
  const remainingMs = notAfter.getTime() - made.getTime()
  const waitMs = remainingMs > 0 ? Math.max(SHORTEST_RENEWAL_MS, (remainingMs * 2) / 3) : EXPIRED_RENEWAL_MS
  return new Date(made.getTime() + Math.floor(waitMs))
}
