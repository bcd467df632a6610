/** The middle value; of an even number the mean of the two in the middle. Throws on nothing: there is no middle of it. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('median: no values')
  const sorted = values.toSorted((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)] ?? 0
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? 0
  return (lower + upper) / 2
}

/** The smallest value that at least `percent` of all values do not exceed (nearest rank, so it was really measured). */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new RangeError('percentile: no values')
  if (!(percent > 0 && percent <= 100)) throw new RangeError(`percentile: ${percent} is not within 0 to 100`)
  const sorted = values.toSorted((a, b) => a - b)
  // Rounded before it is cut up: 99 / 100 * 200 is a little more than 198.
  const rank = Math.ceil(Number(((percent / 100) * sorted.length).toFixed(9)))
  return sorted[rank - 1] ?? 0
}
