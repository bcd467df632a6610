import type { DescEnum, DescField, DescMessage, MessageShape } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { timestampDate } from '@bufbuild/protobuf/wkt'
import { instantOf } from '../../shared/time.ts'

/** Data as programs read it: times as ISO texts, enums as words, numbers as numbers. */
export type Plain = null | boolean | number | string | readonly Plain[] | { readonly [key: string]: Plain }
export type PlainRecord = { readonly [key: string]: Plain }

/** What stands for a field that is not set: `null` where programs want every field, nothing where absence is the rule. */
export type Absent = 'null' | 'omit'

/** A message as a plain object, with the field names of the protocol in camelCase. */
export function plainOf<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  absent: Absent = 'null',
): PlainRecord {
  return convert(reflect(schema, message), absent)
}

function convert(message: ReflectMessage, absent: Absent): PlainRecord {
  const entries: [string, Plain][] = []
  for (const field of message.fields) {
    const value = fieldOf(message, field, absent)
    if (value !== undefined) entries.push([field.localName, value])
  }
  return Object.fromEntries(entries)
}

function fieldOf(message: ReflectMessage, field: DescField, absent: Absent): Plain | undefined {
  const nothing = absent === 'null' ? null : undefined
  switch (field.fieldKind) {
    case 'list':
      return [...message.get(field)].map(item =>
        field.listKind === 'message'
          ? convertItem(item, absent)
          : field.listKind === 'enum'
            ? enumWord(field.enum, item)
            : scalar(item),
      )
    case 'map':
      return Object.fromEntries([...message.get(field)].map(([key, value]) => [String(key), scalar(value)]))
    case 'message':
      return message.isSet(field) ? convertItem(message.get(field), absent) : nothing
    case 'enum': {
      const value = message.get(field)
      return message.isSet(field) && value !== 0 ? enumWord(field.enum, value) : nothing
    }
    case 'scalar': {
      // A oneof's member that was not chosen, or an `optional` that was not given.
      if ((field.oneof ?? field.presence === 1) && !message.isSet(field)) return nothing
      return scalar(message.get(field))
    }
  }
}

function convertItem(item: unknown, absent: Absent): Plain {
  if (!isReflectMessage(item)) return null
  if (item.desc.typeName === 'google.protobuf.Timestamp') return isoOf(item)
  if (item.desc.typeName === 'google.protobuf.Duration') {
    return `${String(item.get(item.desc.field.seconds!))}s`
  }
  return convert(item, absent)
}

function isReflectMessage(item: unknown): item is ReflectMessage {
  return typeof item === 'object' && item !== null && 'desc' in item && 'fields' in item
}

function isoOf(item: ReflectMessage): Plain {
  const seconds = item.get(item.desc.field.seconds!)
  const nanos = item.get(item.desc.field.nanos!)
  if (typeof seconds !== 'bigint' || typeof nanos !== 'number') return null
  const timestamp = { $typeName: 'google.protobuf.Timestamp', seconds, nanos } as const
  return instantOf(timestamp) ? timestampDate(timestamp).toISOString() : null
}

function scalar(value: unknown): Plain {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (typeof value === 'bigint') {
    const number = Number(value)
    return Number.isSafeInteger(number) ? number : String(value)
  }
  if (typeof value === 'number') return Number.isFinite(value) ? value : null
  return typeof value === 'string' || typeof value === 'boolean' ? value : null
}

/** The word for a value of an enum: "build-failed" for OUTCOME_CLASS_BUILD_FAILED. */
export function enumWord(desc: DescEnum, value: unknown): string | null {
  const found = desc.values.find(({ number }) => number === value)
  if (!found) return typeof value === 'number' ? String(value) : null
  if (found.number === 0) return null
  const prefix = desc.sharedPrefix ?? ''
  return found.name.toLowerCase().slice(prefix.length).replaceAll('_', '-')
}
