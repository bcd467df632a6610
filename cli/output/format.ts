import { escapeText } from '../../shared/escape.ts'
import { HAZARDOUS, unicodeEscape } from './hazardous.ts'
import type { Plain, PlainRecord } from './plain.ts'

/** How a listing is written; absent: a table. */
export const FORMATS = ['table', 'wide', 'json', 'yaml', 'csv'] as const
export type Format = (typeof FORMATS)[number]

/** Whether what is written is for programs: nothing but the data may stand there. */
export function isData(format: Format | undefined): boolean {
  switch (format) {
    case 'json':
    case 'yaml':
    case 'csv':
      return true
    case undefined:
    case 'table':
    case 'wide':
      return false
  }
}

/** JSON whose texts cannot disturb a terminal; for programs it is the same data. */
export function toJson(value: Plain): string {
  return `${JSON.stringify(value, undefined, 2).replace(HAZARDOUS, unicodeEscape)}\n`
}

/** One record on a line, as safe for a terminal as `toJson`. */
export function toJsonLine(record: PlainRecord): string {
  return `${JSON.stringify(record).replace(HAZARDOUS, unicodeEscape)}\n`
}

export async function toYaml(value: Plain): Promise<string> {
  const { writeYaml } = await import('./write-yaml.ts')
  return writeYaml(value)
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
