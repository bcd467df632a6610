export interface NewlyFailed {
  /** Sorted names of units that failed since and may not. */
  readonly blamed: readonly string[]
  /** Sorted names of units that failed since and may. */
  readonly tolerated: readonly string[]
}

/** Which units failed since: one that had failed before is nobody's fault now. */
export function newlyFailed(
  before: ReadonlySet<string>,
  after: ReadonlySet<string>,
  tolerated: readonly string[],
): NewlyFailed {
  const fresh = [...after].filter(unit => !before.has(unit)).sort()
  const isTolerated = (unit: string) => tolerated.includes(unit)
  return { blamed: fresh.filter(unit => !isTolerated(unit)), tolerated: fresh.filter(isTolerated) }
}
