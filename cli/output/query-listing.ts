import type { QueryRow } from '../../shared/gen/muster/v1/question_pb.ts'
import { toJsonLine } from './format.ts'
import { shortId } from './machine-listing.ts'
import type { Plain, PlainRecord } from './plain.ts'
import type { Listing } from './show-list.ts'

/** What the values of an answer's rows are. */
export interface AnswerTable {
  readonly columns: readonly string[]
  readonly groups: boolean
}

export function nameOfRow(row: QueryRow): string {
  return row.host || row.machine
}

/** Machines with their values, or groups of them. */
export function queryListing({ columns, groups }: AnswerTable): Listing<QueryRow> {
  const own = groups ? [] : ['host', 'machine']
  // What every row begins with stands there once, also where it was selected.
  const further = columns
    .map((title, at) => ({ title, at }))
    .filter(({ title }) => groups || title !== 'host')
  return {
    fields: [...own, ...further.map(({ title }) => title)],
    record: row => recordOf(row, { columns, groups }),
    empty: 'nothing matches',
    columns: [
      ...(groups
        ? []
        : [
            { title: 'HOST', text: (row: QueryRow) => row.host },
            { title: 'MACHINE', text: (row: QueryRow) => shortId(row.machine) },
          ]),
      ...further.map(({ title, at }) => ({
        title,
        text: (row: QueryRow) => shown(valueFrom(row.values[at])),
      })),
    ],
  }
}

/** One row as it comes: a JSON object on a line. */
export function lineOfRow(row: QueryRow, table: AnswerTable): string {
  return toJsonLine(recordOf(row, table))
}

function recordOf(row: QueryRow, { columns, groups }: AnswerTable): PlainRecord {
  return {
    ...(groups ? {} : { host: row.host, machine: row.machine }),
    ...Object.fromEntries(columns.map((column, at) => [column, valueFrom(row.values[at])])),
  }
}

interface ProbeLine {
  readonly name: string
  readonly item: PlainRecord
}

/** What a probe listed on each machine: one line for each thing of the list. */
export function probeListing(
  rows: readonly QueryRow[],
  { columns }: AnswerTable,
  column: string,
): { readonly lines: readonly ProbeLine[]; readonly listing: Listing<ProbeLine> } {
  const at = columns.indexOf(column)
  const lines = rows.flatMap(row => {
    const value = valueFrom(row.values[at])
    return isList(value)
      ? value.filter(isRecord).map(item => ({ name: row.host || shortId(row.machine), item }))
      : []
  })
  const fields = [...new Set(lines.flatMap(({ item }) => Object.keys(item)))]
  return {
    lines,
    listing: {
      fields: ['host', ...fields],
      record: ({ name, item }) => ({ host: name, ...item }),
      empty: `${column}: nothing`,
      columns: [
        { title: 'HOST', text: ({ name }) => name },
        ...fields.map(field => ({
          title: field.replace(/[A-Z]/g, ' $&').toUpperCase(),
          text: ({ item }: ProbeLine) => shown(item[field] ?? null),
        })),
      ],
    },
  }
}

function isList(value: Plain): value is readonly Plain[] {
  return Array.isArray(value)
}

function isRecord(value: Plain): value is PlainRecord {
  return typeof value === 'object' && value !== null && !isList(value)
}

/** What the machines said, as data; a text that is no JSON stays a text. */
function valueFrom(text: string | undefined): Plain {
  if (text === undefined) return null
  try {
    const value: Plain = JSON.parse(text)
    return value
  } catch {
    return text
  }
}

function shown(value: Plain): string {
  return value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value)
}
