/** Between two columns. */
export const GAP = 2
/** A text that is wrapped into fewer columns is hard to read. */
const LEAST_WRAPPED = 16

export interface WantedColumn {
  /** What its widest cell takes. */
  readonly width: number
  /** It stays: its text goes on below, instead of being cut. */
  readonly wraps: boolean
  /** None of its texts can be broken between words. */
  readonly names?: boolean
}

/** How wide a column is in the row, where 0 leaves it out; or that its text has lines of its own below the row. */
export type Place = number | 'below'

const LEFT_OUT: WantedColumn = { width: 0, wraps: false }

/**
 * Where each column of a table goes that has so much room. Columns that wrap matter most, and those before the first of them name the
 * row: they stay. One that wraps goes below where the row cannot show it readably, the widest first: then it has the whole line. All
 * others stay where there is room for them beside those, the first before the last. Columns that wrap share what is left, none more
 * than it wants; what still has no room is cut at the end of the line.
 */
export function fitColumns(wanted: readonly WantedColumn[], room: number): readonly Place[] {
  const below = columnsBelow(wanted, room)
  const row = wanted.map((column, at) => (below.has(at) ? LEFT_OUT : column))
  const widths = cutAtEnd(shareRoom(leaveOut(row, staying(wanted), room), room), room)
  return widths.map((width, at) => (below.has(at) ? 'below' : width))
}

/** Which columns are never left out. */
function staying(wanted: readonly WantedColumn[]): readonly boolean[] {
  const first = wanted.findIndex(({ wraps }) => wraps)
  return wanted.map(({ wraps }, at) => first < 0 || at < first || wraps)
}

function columnsBelow(wanted: readonly WantedColumn[], room: number): ReadonlySet<number> {
  const stays = staying(wanted)
  const below = new Set<number>()
  for (const at of belowFirst(wanted)) {
    const row = wanted.filter((_, other) => stays[other] && !below.has(other))
    if (leastRoom(row) <= room) break
    below.add(at)
  }
  return below
}

/** Which columns may go below, the widest before the others. The first that wraps is what the row is about: it goes last. */
function belowFirst(wanted: readonly WantedColumn[]): readonly number[] {
  const first = wanted.findIndex(({ wraps }) => wraps)
  return (
    wanted
      .map(({ width, wraps }, at) => ({ width, wraps, at }))
      // Without its first column there is no row to stand below of.
      .filter(({ wraps, at }) => wraps && at > 0)
      .toSorted((a, b) => Number(a.at === first) - Number(b.at === first) || b.width - a.width || b.at - a.at)
      .map(({ at }) => at)
  )
}

function leaveOut(
  row: readonly WantedColumn[],
  stays: readonly boolean[],
  room: number,
): readonly WantedColumn[] {
  let kept = row.map((column, at) => (stays[at] ? column : LEFT_OUT))
  for (const [at, column] of row.entries()) {
    if (stays[at]) continue
    const more = kept.with(at, column)
    if (leastRoom(more) <= room) kept = more
  }
  return kept
}

/** What columns take when all that can be wrapped are as narrow as they may be. */
function leastRoom(columns: readonly WantedColumn[]): number {
  return columns.reduce((sum, column) => sum + leastWidth(column), gapsOf(columns))
}

/** A name that is broken is no name: it cannot be read, nor copied. */
function leastWidth({ width, wraps, names = false }: WantedColumn): number {
  return wraps && !names ? Math.min(width, LEAST_WRAPPED) : width
}

function gapsOf(columns: readonly WantedColumn[]): number {
  return GAP * Math.max(0, columns.filter(({ width }) => width > 0).length - 1)
}

function shareRoom(columns: readonly WantedColumn[], room: number): readonly number[] {
  const widths = columns.map(({ width }) => width)
  const prose = columns
    .map(({ width, wraps, names = false }, index) => ({ width, index, gives: wraps && !names }))
    .filter(({ gives }) => gives)
    // Those that want least are served first, and leave what they do not need.
    .toSorted((a, b) => a.width - b.width)
  const wantedByProse = prose.reduce((sum, { width }) => sum + width, 0)
  let rest = room - gapsOf(columns) - widths.reduce((sum, width) => sum + width, 0) + wantedByProse
  for (const [at, { width, index }] of prose.entries()) {
    const share = Math.max(LEAST_WRAPPED, Math.floor(rest / (prose.length - at)))
    widths[index] = Math.min(width, share)
    rest -= Math.min(width, share)
  }
  return widths
}

function cutAtEnd(widths: readonly number[], room: number): readonly number[] {
  let start = 0
  return widths.map(width => {
    const fits = Math.max(0, Math.min(width, room - start))
    start += width > 0 ? width + GAP : 0
    return fits
  })
}
