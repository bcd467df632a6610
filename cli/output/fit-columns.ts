/** Between two columns. */
export const GAP = 2
/** A text that is wrapped into fewer columns cannot be read any more. */
const LEAST_WRAPPED = 16

export interface WantedColumn {
  /** What its widest cell takes. */
  readonly width: number
  /** Its text goes on below, instead of being cut. */
  readonly wraps: boolean
}

/**
 * How wide each column of a table may be that has so much room. Columns that wrap share what the others leave, none more than it
 * wants; what still has no room is cut at the end of the line, so that a row stays a row.
 */
export function fitColumns(wanted: readonly WantedColumn[], room: number): readonly number[] {
  let rest = room - GAP * (wanted.length - 1)
  for (const { width, wraps } of wanted) if (!wraps) rest -= width
  const widths = wanted.map(({ width }) => width)
  const wrapping = wanted
    .map(({ width, wraps }, index) => ({ width, wraps, index }))
    .filter(({ wraps }) => wraps)
    // Those that want least are served first, and leave what they do not need.
    .toSorted((a, b) => a.width - b.width)
  for (const [at, { width, index }] of wrapping.entries()) {
    const share = Math.max(LEAST_WRAPPED, Math.floor(rest / (wrapping.length - at)))
    widths[index] = Math.min(width, share)
    rest -= Math.min(width, share)
  }
  let start = 0
  return widths.map(width => {
    const fits = Math.max(0, Math.min(width, room - start))
    start += width + GAP
    return fits
  })
}
