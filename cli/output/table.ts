import { escapeText } from '../../shared/escape.ts'
import { paint, type Style } from './colour.ts'
import { textWidth } from './text-width.ts'

/** One column of a table for people. */
export interface Column<T> {
  readonly title: string
  /** Shown with `-o wide` only. */
  readonly wide?: boolean
  readonly text: (row: T) => string
  readonly style?: (row: T) => Style
}

export interface TableLook {
  readonly wide: boolean
  readonly colour: boolean
}

/** Aligned columns without borders. Every text is escaped here, so that no caller can forget it. */
export function renderTable<T>(rows: readonly T[], columns: readonly Column<T>[], look: TableLook): string {
  const shown = columns.filter(column => look.wide || !column.wide)
  const titles = shown.map(({ title }) => title)
  const cells = rows.map(row => shown.map(column => escapeText(column.text(row)) || '-'))
  const widths = shown.map((_, index) =>
    [titles, ...cells].reduce((most, line) => Math.max(most, textWidth(line[index] ?? '')), 0),
  )
  const styles = rows.map(row => shown.map(column => column.style?.(row) ?? 'plain'))
  const lines = [titles, ...cells].map((line, at) =>
    line
      .map((text, index) => {
        const last = index === line.length - 1
        const padding = last ? '' : ' '.repeat((widths[index] ?? 0) - textWidth(text))
        const style: Style = at === 0 ? 'bold' : (styles[at - 1]?.[index] ?? 'plain')
        return paint(text, style, look.colour) + padding
      })
      .join('  '),
  )
  return `${lines.join('\n')}\n`
}

/** Names and values in two columns, for one thing in detail. */
export function renderFields(
  fields: readonly (readonly [name: string, value: string | undefined, style?: Style])[],
  colour: boolean,
): string {
  const present = fields.filter(field => field[1] !== undefined && field[1] !== '')
  const width = present.reduce((most, [name]) => Math.max(most, textWidth(name)), 0)
  return present
    .map(([name, value, style]) => {
      const label = `${name}${' '.repeat(width - textWidth(name))}`
      return `${paint(label, 'dim', colour)}  ${paint(escapeText(value ?? ''), style ?? 'plain', colour)}\n`
    })
    .join('')
}
