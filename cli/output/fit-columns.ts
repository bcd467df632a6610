/** Between two columns. */
export const GAP = 2
/** A text that is wrapped into fewer columns is hard to read. */
const LEAST_WRAPPED = 16
/** Into fewer it cannot be read at all. */
const LEAST_OF_ALL = 8

export interface WantedColumn {
  /** What its widest cell takes. */
  readonly width: number
  /** It stays: its text goes on below, instead of being cut. */
  readonly wraps: boolean
}

const LEFT_OUT: WantedColumn = { width: 0, wraps: false }

/**
 * How wide each column of a table may be that has so much room; 0: it is left out. Columns that wrap matter most, and those before
 * the first of them name the row: they stay. All others stay where there is room for them beside those, the first before the last.
 * Columns that wrap share what is left, none more than it wants; what still has no room is cut at the end of the line, so that a
 * row stays a row.
 */
export function fitColumns(wanted: readonly WantedColumn[], room: number): readonly number[] {
  return cutAtEnd(shareRoom(leaveOut(wanted, room), room), room)
}

function leaveOut(wanted: readonly WantedColumn[], room: number): readonly WantedColumn[] {
  const first = wanted.findIndex(({ wraps }) => wraps)
  if (first < 0) return wanted
  const stays = (column: WantedColumn, at: number) => at < first || column.wraps
  let kept = wanted.map((column, at) => (stays(column, at) ? column : LEFT_OUT))
  for (const [at, column] of wanted.entries()) {
    const more = kept.with(at, column)
    if (leastRoom(more) <= room) kept = more
  }
  return kept
}

/** What columns take when all that wrap are as narrow as they may be. */
function leastRoom(columns: readonly WantedColumn[]): number {
  const least = columns.map(({ width, wraps }) => (wraps ? Math.min(width, LEAST_WRAPPED) : width))
  return least.reduce((sum, width) => sum + width, gapsOf(columns))
}

/** A column that is left out between others keeps its gap. */
function gapsOf(columns: readonly WantedColumn[]): number {
  return (
    GAP *
    Math.max(
      0,
      columns.findLastIndex(({ width }) => width > 0),
    )
  )
}

function shareRoom(columns: readonly WantedColumn[], room: number): readonly number[] {
  const least = leastRoom(columns) <= room ? LEAST_WRAPPED : LEAST_OF_ALL
  const widths = columns.map(({ width }) => width)
  let rest = room - gapsOf(columns)
  for (const { width, wraps } of columns) if (!wraps) rest -= width
  const wrapping = columns
    .map(({ width, wraps }, index) => ({ width, wraps, index }))
    .filter(({ wraps }) => wraps)
    // Those that want least are served first, and leave what they do not need.
    .toSorted((a, b) => a.width - b.width)
  for (const [at, { width, index }] of wrapping.entries()) {
    const share = Math.max(least, Math.floor(rest / (wrapping.length - at)))
    widths[index] = Math.min(width, share)
    rest -= Math.min(width, share)
  }
  return widths
}

function cutAtEnd(widths: readonly number[], room: number): readonly number[] {
  let start = 0
  return widths.map(width => {
    const fits = Math.max(0, Math.min(width, room - start))
    start += width + GAP
    return fits
  })
}
