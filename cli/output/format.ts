import { escapeText } from '../../shared/escape.ts'
import type { Plain, PlainRecord } from './plain.ts'

/** How a listing is written; absent: a table. */
export const FORMATS = ['table', 'wide', 'json', 'yaml', 'csv'] as const
export type Format = (typeof FORMATS)[number]

// The characters that escapeText makes visible, without those that are line breaks of the format itself.
const HAZARDOUS = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** JSON whose texts cannot disturb a terminal; for programs it is the same data. */
export function toJson(value: Plain): string {
  return `${JSON.stringify(value, undefined, 2).replace(HAZARDOUS, unicodeEscape)}\n`
}

/** One record on a line, as safe for a terminal as `toJson`. */
export function toJsonLine(record: PlainRecord): string {
  return `${JSON.stringify(record).replace(HAZARDOUS, unicodeEscape)}\n`
}

export async function toYaml(value: Plain): Promise<string> {
  const { Document, Scalar, visit } = await import('yaml')
  const document = new Document(value)
  visit(document, {
    Scalar: (_, node) => {
      // Only in double quotes can a character be written as an escape.
      if (typeof node.value === 'string' && node.value.search(HAZARDOUS) !== -1)
        node.type = Scalar.QUOTE_DOUBLE
    },
  })
  return document.toString({ lineWidth: 0 }).replace(HAZARDOUS, unicodeEscape)
}

/** RFC 4180 with a header line. Lists and objects are JSON texts; a field that is not there is empty. */
export function toCsv(records: readonly PlainRecord[], fields: readonly string[]): string {
  const line = (cells: readonly string[]) => `${cells.map(quoteCell).join(',')}\r\n`
  return (
    line(fields) + records.map(record => line(fields.map(field => cellText(record[field] ?? null)))).join('')
  )
}

function cellText(value: Plain): string {
  if (value === null) return ''
  return escapeText(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

function quoteCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

function unicodeEscape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
}
