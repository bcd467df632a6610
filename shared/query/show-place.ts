/** Columns of the expression that are shown around the place. */
const MOST_COLUMNS = 76

/** The line of a text with the place below it; `offset` counts from its beginning, as `indexOf` does. */
export function showPlace(text: string, offset: number): string {
  const at = Math.min(Math.max(offset, 0), text.length)
  const start = text.lastIndexOf('\n', at - 1) + 1
  const end = text.indexOf('\n', at)
  const line = text.slice(start, end === -1 ? undefined : end)
  const before = [...line.slice(0, at - start)]
  const after = [...line.slice(at - start)]
  // So much of what is before that the place is well within what is shown.
  const cut = Math.max(0, before.length - Math.floor(MOST_COLUMNS / 2))
  const left = `${cut > 0 ? '…' : ''}${before.slice(cut).join('')}`.replaceAll('\t', ' ')
  const room = MOST_COLUMNS - [...left].length
  const right = after.length > room ? `${after.slice(0, room - 1).join('')}…` : after.join('')
  return `  ${left}${right.replaceAll('\t', ' ')}\n  ${' '.repeat([...left].length)}^`
}

/** Where a line and a column, both from 1, are in a text. */
export function offsetOf(text: string, line: number, column: number): number {
  const lines = text.split('\n')
  return lines.slice(0, line - 1).reduce((sum, { length }) => sum + length + 1, 0) + column - 1
}
