import { type CelValue, isCelList, isCelMap, isCelType, isCelUint } from '@bufbuild/cel'
import { isMessage } from '@bufbuild/protobuf'
import { isReflectMessage } from '@bufbuild/protobuf/reflect'
import { DurationSchema, durationMs, TimestampSchema, timestampDate } from '@bufbuild/protobuf/wkt'

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue }

/** The value of an expression as JSON. Integers beyond what a JSON number holds exactly become strings. */
export function celToJson(value: CelValue): JsonValue {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
  if (typeof value === 'bigint') return integerToJson(value)
  if (isCelUint(value)) return integerToJson(value.value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (isCelList(value)) return Array.from(value, celToJson)
  if (isCelMap(value)) {
    return Object.fromEntries(Array.from(value, ([key, item]) => [keyText(key), celToJson(item)]))
  }
  if (isCelType(value)) return value.name
  if (isReflectMessage(value) && isMessage(value.message, TimestampSchema)) {
    return timestampDate(value.message).toISOString()
  }
  if (isReflectMessage(value) && isMessage(value.message, DurationSchema)) {
    return `${durationMs(value.message) / 1_000}s`
  }
  return String(value)
}

function integerToJson(value: bigint): number | string {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value.toString()
}

function keyText(key: bigint | string | boolean | { readonly value: bigint }): string {
  return typeof key === 'object' ? key.value.toString() : String(key)
}
