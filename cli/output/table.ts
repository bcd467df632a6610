import { escapeText } from '../../shared/escape.ts'
import type { Io } from '../io.ts'
import { paint, type Style } from './colour.ts'
import { fitColumns, GAP } from './fit-columns.ts'
import { cutToWidth, textWidth, wrapText } from './text-width.ts'

/** One column of a table for people. */
export interface Column<T> {
  readonly title: string
  /** Shown with `-o wide` only. */
  readonly wide?: boolean
  /** On a terminal its text goes on below where it has no room; without it, what has none is cut. */
  readonly wraps?: boolean
  readonly text: (row: T) => string
  readonly style?: (row: T) => Style
}

export interface TableLook {
  readonly wide: boolean
  readonly colour: boolean
  /** How wide a line may be; undefined: nobody looks at it on a terminal, so nothing is cut. */
  readonly room: number | undefined
}

/** A table fits the terminal that it is shown on. Whoever asks for all of it, or reads it by a program, gets all. */
export function tableLook({ colour, columns, outIsTerminal }: Io, wide: boolean): TableLook {
  return { wide, colour, room: outIsTerminal && !wide ? columns : undefined }
}

/** The folder and the hash of the Nix store, which nobody compares by eye. */
const STORE = /\/nix\/store\/[0-9a-z]{32}-(?=\S)/g

/** Aligned columns without borders. Every text is escaped here, so that no caller can forget it. */
export function renderTable<T>(rows: readonly T[], columns: readonly Column<T>[], look: TableLook): string {
  const { room } = look
  const shown = columns.filter(column => look.wide || !column.wide)
  const titles = shown.map(({ title }) => title)
  const cells = rows.map(row =>
    shown.map(column => {
      const text = escapeText(column.text(row)) || '-'
      return room === undefined ? text : text.replace(STORE, '')
    }),
  )
  const wanted = shown.map(({ wraps = false }, index) => ({
    wraps,
    width: [titles, ...cells].reduce((most, line) => Math.max(most, textWidth(line[index] ?? '')), 0),
  }))
  const widths = room === undefined ? wanted.map(({ width }) => width) : fitColumns(wanted, room)
  const lines = [titles, ...cells].flatMap((line, at) => {
    const row = rows[at - 1]
    const styles = shown.map(
      (column): Style => (row === undefined ? 'bold' : (column.style?.(row) ?? 'plain')),
    )
    const parts = line.map((text, index) => {
      const width = widths[index] ?? 0
      return wanted[index]?.wraps ? wrapText(text, width) : [cutToWidth(text, width)]
    })
    const height = Math.max(...parts.map(({ length }) => length))
    return Array.from({ length: height }, (_, part) =>
      joinCells(
        parts.map(texts => texts[part] ?? ''),
        widths,
        styles,
        look.colour,
      ),
    )
  })
  return `${lines.join('\n')}\n`
}

/** One line. Nothing follows its last text: blanks at its end would be marked with it. */
function joinCells(
  texts: readonly string[],
  widths: readonly number[],
  styles: readonly Style[],
  colour: boolean,
): string {
  const last = texts.findLastIndex(text => text !== '')
  return texts
    .slice(0, last + 1)
    .map((text, index) => {
      const padding = index === last ? '' : ' '.repeat((widths[index] ?? 0) - textWidth(text))
      return (text === '' ? '' : paint(text, styles[index] ?? 'plain', colour)) + padding
    })
    .join(' '.repeat(GAP))
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
