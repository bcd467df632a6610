import { escapeText } from '../../shared/escape.ts'
import type { Io } from '../io.ts'
import { paint, type Style } from './colour.ts'
import { fitColumns, GAP, type Place, type WantedColumn } from './fit-columns.ts'
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
  /** Is told the titles of columns that had no room; absent: nobody is there to read of them. */
  readonly leftOut?: (titles: readonly string[]) => void
}

/** A table fits the terminal that it is shown on. Whoever asks for all of it, or reads it by a program, gets all. */
export function tableLook(io: Io, wide: boolean): TableLook {
  const { colour, columns, outIsTerminal, errIsTerminal } = io
  const look = { wide, colour, room: outIsTerminal && !wide ? columns : undefined }
  return outIsTerminal && errIsTerminal ? { ...look, leftOut: titles => remarkOn(io, titles) } : look
}

interface Remarks {
  readonly told: Set<string>
  readonly untold: Set<string>
}

const remarksBy = new WeakMap<Io, Remarks>()

/** Says once what had no room, however many tables a command shows, and however often. */
function remarkOn(io: Io, titles: readonly string[]): void {
  const remarks = remarksBy.get(io) ?? { told: new Set(), untold: new Set() }
  remarksBy.set(io, remarks)
  const { told, untold } = remarks
  for (const title of titles) if (!told.has(title)) untold.add(title)
  if (untold.size === 0) return
  // Below the picture that is being made: this may be one of its tables, and a long one would take the remark out of sight.
  setImmediate(() => {
    if (untold.size > 0) io.err(leftOutText([...untold]))
    for (const title of untold) told.add(title)
    untold.clear()
  })
}

/** For a table that was made and is not shown. */
export function withdrawRemarks(io: Io): void {
  remarksBy.get(io)?.untold.clear()
}

export function leftOutText(titles: readonly string[]): string {
  const last = titles.at(-1) ?? ''
  const [which, are] =
    titles.length < 2 ? [last, 'is'] : [`${titles.slice(0, -1).join(', ')} and ${last}`, 'are']
  return `${which} ${are} left out here; -o wide shows all\n`
}

/** The folder and the hash of the Nix store, which nobody compares by eye. */
const STORE = /\/nix\/store\/[0-9a-z]{32}-(?=\S)/g
/** Before the lines of a text that stands below its row. */
const INDENT = 2
/** Where nothing is known. */
const NOTHING = '-'

interface Cell {
  readonly text: string
  readonly style: Style
  readonly wraps: boolean
  readonly place: Place
}

/** Aligned columns without borders. Every text is escaped here, so that no caller can forget it. */
export function renderTable<T>(rows: readonly T[], columns: readonly Column<T>[], look: TableLook): string {
  const { wide, room, leftOut } = look
  const shown = columns.filter(column => wide || !column.wide)
  const titles = shown.map(({ title }) => title)
  const texts = rows.map(row =>
    shown.map(column => {
      const text = escapeText(column.text(row)) || NOTHING
      return room === undefined ? text : text.replace(STORE, '')
    }),
  )
  const wanted = shown.map(({ title, wraps = false }, index) =>
    wantedColumn(
      title,
      texts.map(line => line[index] ?? ''),
      wraps,
    ),
  )
  const places = room === undefined ? wanted.map(({ width }) => width) : fitColumns(wanted, room)
  if (!wide) leftOut?.(titles.filter((_, index) => places[index] === 0))
  const lines = [titles, ...texts].flatMap((line, at) => {
    const row = rows[at - 1]
    const cells = shown.map(
      ({ wraps = false, style }, index): Cell => ({
        text: line[index] ?? '',
        style: row === undefined ? 'bold' : (style?.(row) ?? 'plain'),
        wraps,
        place: places[index] ?? 0,
      }),
    )
    return [...rowLines(cells, look), ...linesBelow(cells, look)]
  })
  return `${lines.join('\n')}\n`
}

function wantedColumn(title: string, texts: readonly string[], wraps: boolean): WantedColumn {
  return {
    width: texts.reduce((most, text) => Math.max(most, textWidth(text)), textWidth(title)),
    wraps,
    names: !texts.some(text => text.includes(' ')),
  }
}

/** The row itself, on as many lines as its longest text takes. */
function rowLines(cells: readonly Cell[], { colour }: TableLook): readonly string[] {
  const parts = cells.flatMap(({ text, style, wraps, place }) =>
    place === 'below' || place === 0
      ? []
      : [{ style, width: place, lines: wraps ? wrapText(text, place) : [cutToWidth(text, place)] }],
  )
  const height = Math.max(...parts.map(({ lines }) => lines.length))
  return Array.from({ length: height }, (_, at) =>
    joinCells(
      parts.map(({ lines, ...part }) => ({ ...part, text: lines[at] ?? '' })),
      colour,
    ),
  )
}

/** What has lines of its own. Nothing is said there of what is not known, but where something follows: the order tells what is what. */
function linesBelow(cells: readonly Cell[], { room = 0, colour }: TableLook): readonly string[] {
  const below = cells.filter(({ place }) => place === 'below')
  const last = below.findLastIndex(({ text }) => text !== NOTHING)
  return below
    .slice(0, last + 1)
    .flatMap(({ text, style }) =>
      wrapText(text, Math.max(1, room - INDENT)).map(
        line => `${' '.repeat(INDENT)}${paint(line, style, colour)}`,
      ),
    )
}

/** One line. Nothing follows its last text: blanks at its end would be marked with it. */
function joinCells(
  cells: readonly { readonly text: string; readonly width: number; readonly style: Style }[],
  colour: boolean,
): string {
  const last = cells.findLastIndex(({ text }) => text !== '')
  return cells
    .slice(0, last + 1)
    .map(({ text, width, style }, index) => {
      const padding = index === last ? '' : ' '.repeat(width - textWidth(text))
      return (text === '' ? '' : paint(text, style, colour)) + padding
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
