import { type CelValue, isCelUint } from '@bufbuild/cel'
import { isMessage } from '@bufbuild/protobuf'
import { isReflectMessage } from '@bufbuild/protobuf/reflect'
import { DurationSchema, durationMs, TimestampSchema, timestampMs } from '@bufbuild/protobuf/wkt'
import { celToJson } from '../../shared/query/cel-to-json.ts'

/** A value's place among others of its kind. */
export type Ordered =
  | { readonly kind: 'number'; readonly key: bigint | number }
  | { readonly kind: 'boolean' | 'text' | 'time' | 'duration' | 'list'; readonly key: number | string }

export type OrderedKind = Ordered['kind']

const KINDS: readonly OrderedKind[] = ['boolean', 'number', 'time', 'duration', 'text', 'list']

/** Undefined: the value is not known. Numbers that are none (NaN) are not known either: nothing can be ordered by them. */
export function orderedOf(value: CelValue | undefined): Ordered | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'bigint') return { kind: 'number', key: value }
  if (typeof value === 'number') return Number.isNaN(value) ? undefined : { kind: 'number', key: value }
  if (isCelUint(value)) return { kind: 'number', key: value.value }
  if (typeof value === 'boolean') return { kind: 'boolean', key: Number(value) }
  if (typeof value === 'string') return { kind: 'text', key: value }
  if (isReflectMessage(value) && isMessage(value.message, TimestampSchema)) {
    return { kind: 'time', key: timestampMs(value.message) }
  }
  if (isReflectMessage(value) && isMessage(value.message, DurationSchema)) {
    return { kind: 'duration', key: durationMs(value.message) }
  }
  return { kind: 'list', key: JSON.stringify(celToJson(value)) }
}

/** Below zero: `a` comes first. What is not known comes last, whichever way is asked for; unlike kinds by their kinds. */
export function compareOrdered(a: Ordered | undefined, b: Ordered | undefined, descending: boolean): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  const byKind = KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind)
  const order = byKind !== 0 ? byKind : a.key < b.key ? -1 : a.key > b.key ? 1 : 0
  return descending ? -order : order
}
