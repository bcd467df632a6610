import type { Io } from '../io.ts'
import { type Format, toCsv, toJson, toYaml } from './format.ts'
import type { PlainRecord } from './plain.ts'
import { type Column, renderTable, tableLook, withdrawRemarks } from './table.ts'

/** How one kind of thing is listed. */
export interface Listing<T> {
  /** Names of the record's fields, in order: the columns of CSV, and what the reference documents. */
  readonly fields: readonly string[]
  readonly record: (row: T) => PlainRecord
  readonly columns: readonly Column<T>[]
  /** What to say to people when there is nothing. */
  readonly empty: string
}

/** Renders rows in the format asked for. */
export async function renderList<T>(
  io: Io,
  rows: readonly T[],
  listing: Listing<T>,
  format: Format = 'table',
): Promise<string> {
  const records = () => rows.map(listing.record)
  switch (format) {
    case 'json':
      return toJson(records())
    case 'yaml':
      return toYaml(records())
    case 'csv':
      return toCsv(records(), listing.fields)
    case 'table':
    case 'wide':
      if (rows.length === 0) return ''
      return renderTable(rows, listing.columns, tableLook(io, format === 'wide'))
  }
}

/** Writes rows in the format asked for. Remarks for people go to standard error, where no program reads them. */
export async function showList<T>(
  io: Io,
  rows: readonly T[],
  listing: Listing<T>,
  format: Format = 'table',
): Promise<void> {
  io.out(await renderList(io, rows, listing, format))
  if (rows.length === 0 && (format === 'table' || format === 'wide')) io.err(`${listing.empty}\n`)
}

/** One thing: as data, or as the text that `human` makes. */
export async function renderOne(
  record: PlainRecord,
  format: Format | undefined,
  human: () => string,
): Promise<string> {
  switch (format) {
    case 'json':
      return toJson(record)
    case 'yaml':
      return toYaml(record)
    case 'csv':
      return toCsv([record], Object.keys(record))
    case undefined:
    case 'table':
    case 'wide':
      return human()
  }
}

/** Writes one thing. */
export async function showOne(
  io: Io,
  record: PlainRecord,
  format: Format | undefined,
  human: () => string,
): Promise<void> {
  // Its table may have been made before it was known that data is wanted.
  if (format !== undefined && format !== 'table' && format !== 'wide') withdrawRemarks(io)
  io.out(await renderOne(record, format, human))
}
