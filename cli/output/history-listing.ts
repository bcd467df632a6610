import type { FactsChange } from '../../shared/gen/muster/v1/facts_change_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { formatBytes } from '../duration.ts'
import { ago } from './machine-listing.ts'
import type { Plain } from './plain.ts'
import type { Listing } from './show-list.ts'

export const HISTORY_FIELDS = [
  'at',
  'notBefore',
  'part',
  'name',
  'field',
  'before',
  'after',
  'hardware',
] as const

/** Fields that count bytes. */
const BYTES: ReadonlySet<string> = new Set(['disk.size', 'memory.total', 'module.size'])

export function historyListing(now: Date): Listing<FactsChange> {
  return {
    fields: HISTORY_FIELDS,
    record: change => ({
      at: isoOfMillis(millisOf(change.at)),
      notBefore: isoOfMillis(millisOf(change.notBefore)),
      part: change.part,
      name: change.name,
      field: change.field,
      before: parsedValue(change.before),
      after: parsedValue(change.after),
      hardware: change.hardware,
    }),
    empty: 'nothing changed',
    columns: [
      { title: 'AGE', text: change => ago(millisOf(change.at), now.getTime()) },
      { title: 'AT', wide: true, text: change => isoOfMillis(millisOf(change.at)) ?? '' },
      { title: 'PART', text: change => change.part },
      { title: 'NAME', text: change => change.name },
      { title: 'FIELD', text: change => change.field },
      { title: 'BEFORE', wraps: true, text: change => sideText(change, change.before) },
      { title: 'AFTER', wraps: true, text: change => sideText(change, change.after) },
    ],
  }
}

export function isoOfMillis(millis: number | undefined): string | null {
  return millis === undefined ? null : new Date(millis).toISOString()
}

function parsedValue(text: string): Plain {
  if (text === '') return null
  try {
    const value: Plain = JSON.parse(text)
    return value
  } catch {
    return text // was cut: it was too long
  }
}

function sideText({ part, field }: FactsChange, text: string): string {
  const value = parsedValue(text)
  if (value === null) return field === '' ? 'not there' : 'not known'
  const bytes = BYTES.has(`${part}.${field}`) ? Number(value) : Number.NaN
  if (Number.isFinite(bytes)) return formatBytes(bytes)
  return typeof value === 'object' ? wordsOf(value) : String(value)
}

/** What came or went, in the order of its fields: `nvme1n1 WD Blue 1 TB`. */
function wordsOf(value: Plain): string {
  const parts = typeof value === 'object' && value !== null ? Object.values(value) : [value]
  const words = parts.filter(part => typeof part === 'string' && part !== '')
  return words.length > 0 ? words.slice(0, 4).join(' ') : JSON.stringify(value)
}
