import { type CelMap, type CelUint, type CelValue, celList, celMap } from '@bufbuild/cel'
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  type MessageShape,
} from '@bufbuild/protobuf'
import { reflect } from '@bufbuild/protobuf/reflect'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import { Edition, FeatureSet_FieldPresence, TimestampSchema } from '@bufbuild/protobuf/wkt'
import { type Facts, FactsSchema } from '../gen/muster/v1/facts_pb.ts'

/** No list or map that an expression sees is longer. */
const MAX_LIST_LENGTH = 1_024

/** The facts as an expression sees them. */
export function factsToCel(facts: Facts): CelMap {
  return messageToCel(FactsSchema, facts)
}

/** Facts that are kept for long, as an expression sees them. The bytes must be such as `readFacts` took. */
export function encodedFactsToCel(bytes: Uint8Array): CelMap {
  return encodedToCel(FactsSchema, bytes)
}

/**
 * A message as an expression sees it: fields in camelCase, integers as CEL integers, lists always there. A field that
 * is not set is missing, so that using it is an error and `has()` tells: missing is not zero. Only what an expression
 * comes to is converted, once: the message must not change any more. `hidden` fields are missing.
 */
export function messageToCel<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  hidden: readonly Key[] = [],
): CelMap {
  const { fields } = shapeOf(schema)
  const shown = hidden.length === 0 ? fields : new Map([...fields].filter(([name]) => !hidden.includes(name)))
  return celMap(new MessageFields(message, shown))
}

/**
 * The same of a message in its encoded form. Only those of its fields that an expression comes to are decoded, once: many
 * decoded messages are a heap that the collector of garbage walks in the middle of a question. The bytes must be of this
 * message, and must not change any more; looking at others throws.
 */
export function encodedToCel(schema: DescMessage, bytes: Uint8Array): CelMap {
  return celMap(new EncodedFields(schema, bytes))
}

type Key = bigint | string | boolean | CelUint

/** How one field of a message is read. */
interface FieldReader {
  /** Undefined: it is not set. */
  read(message: Message): CelValue | undefined
  /** Where a message keeps what was made of the field; undefined: nothing is made. */
  readonly slot: number | undefined
  /** What stands on the wire for it: its number, and those that are set instead of it. */
  readonly numbers: ReadonlySet<number>
}

interface Shape {
  readonly fields: ReadonlyMap<Key, FieldReader>
}

/** The set fields of something by their names. */
abstract class FieldsByName implements ReadonlyMap<Key, CelValue> {
  abstract get(name: Key): CelValue | undefined
  protected abstract names(): MapIterator<Key>

  has(name: Key): boolean {
    return this.get(name) !== undefined
  }

  get size(): number {
    let size = 0
    for (const _ of this.keys()) size++
    return size
  }

  *entries(): MapIterator<[Key, CelValue]> {
    for (const name of this.names()) {
      const value = this.get(name)
      if (value !== undefined) yield [name, value]
    }
  }

  *keys(): MapIterator<Key> {
    for (const [name] of this.entries()) yield name
  }

  *values(): MapIterator<CelValue> {
    for (const [, value] of this.entries()) yield value
  }

  [Symbol.iterator](): MapIterator<[Key, CelValue]> {
    return this.entries()
  }

  forEach(each: (value: CelValue, key: Key, map: ReadonlyMap<Key, CelValue>) => void): void {
    for (const [name, value] of this.entries()) each(value, name, this)
  }
}

/** The fields of a message. What is no plain value is made when it is asked for, and kept. */
class MessageFields extends FieldsByName {
  readonly #message: Message
  readonly #fields: ReadonlyMap<Key, FieldReader>
  #made: (CelValue | undefined)[] | undefined

  constructor(message: Message, fields: ReadonlyMap<Key, FieldReader>) {
    super()
    this.#message = message
    this.#fields = fields
  }

  override get(name: Key): CelValue | undefined {
    const field = this.#fields.get(name)
    if (field === undefined) return undefined
    if (field.slot === undefined) return field.read(this.#message)
    this.#made ??= []
    const known = this.#made[field.slot]
    if (known !== undefined) return known
    const made = field.read(this.#message)
    this.#made[field.slot] = made
    return made
  }

  protected override names(): MapIterator<Key> {
    return this.#fields.keys()
  }
}

/** The fields of a message that is kept in its encoded form. Each is decoded when it is asked for, and kept. */
class EncodedFields extends FieldsByName {
  readonly #schema: DescMessage
  readonly #bytes: Uint8Array
  readonly #made = new Map<Key, CelValue | undefined>()

  constructor(schema: DescMessage, bytes: Uint8Array) {
    super()
    this.#schema = schema
    this.#bytes = bytes
  }

  override get(name: Key): CelValue | undefined {
    const known = this.#made.get(name)
    if (known !== undefined || this.#made.has(name)) return known
    const field = shapeOf(this.#schema).fields.get(name)
    if (field === undefined) return undefined
    const made = field.read(decodePart(this.#schema, this.#bytes, field.numbers))
    this.#made.set(name, made)
    return made
  }

  protected override names(): MapIterator<Key> {
    return shapeOf(this.#schema).fields.keys()
  }
}

/** A message with nothing but these of its fields: what is encoded of them, one after the other, is such a message. */
function decodePart(schema: DescMessage, bytes: Uint8Array, numbers: ReadonlySet<number>): Message {
  const reader = new BinaryReader(bytes)
  const parts: Uint8Array[] = []
  while (reader.pos < reader.len) {
    const start = reader.pos
    const [number, type] = reader.tag()
    reader.skip(type, number)
    if (numbers.has(number)) parts.push(bytes.subarray(start, reader.pos))
  }
  const [first, ...others] = parts
  if (first === undefined) return create(schema)
  return fromBinary(schema, others.length === 0 ? first : Buffer.concat(parts))
}

/** Filled as kinds of messages are met; they are as many as the protocol has. */
const shapes = new WeakMap<DescMessage, Shape>()

function shapeOf(schema: DescMessage): Shape {
  const known = shapes.get(schema)
  if (known) return known
  // Elsewhere a field that is not set reads as its default.
  if (schema.file.edition !== Edition.EDITION_PROTO3) throw new Error(`${schema.typeName}: is not of proto3`)
  const fields = new Map<Key, FieldReader>()
  let slots = 0
  for (const field of schema.fields) {
    const plain = field.fieldKind === 'scalar' || field.fieldKind === 'enum'
    const numbers = new Set((field.oneof?.fields ?? [field]).map(({ number }) => number))
    fields.set(field.localName, { read: readerOf(field), slot: plain ? undefined : slots++, numbers })
  }
  const shape = { fields }
  shapes.set(schema, shape)
  return shape
}

function readerOf(field: DescField): FieldReader['read'] {
  const raw = rawReaderOf(field)
  switch (field.fieldKind) {
    case 'list': {
      const convert = converterOf(field.message)
      return message => celList(listOf(raw(message)).slice(0, MAX_LIST_LENGTH).map(convert))
    }
    case 'map': {
      const convert = converterOf(field.message)
      return message => {
        const entries = Object.entries(raw(message) ?? {}).slice(0, MAX_LIST_LENGTH)
        return celMap(new Map(entries.map(([key, value]) => [key, convert(value)])))
      }
    }
    case 'message': {
      const convert = converterOf(field.message)
      return message => {
        const value = raw(message)
        return value === undefined ? undefined : convert(value)
      }
    }
    case 'enum': {
      const names = field.enum.value
      return message => {
        const number = Number(raw(message) ?? 0)
        return names[number]?.name ?? BigInt(number)
      }
    }
    case 'scalar': {
      if (field.presence === FeatureSet_FieldPresence.IMPLICIT) return message => convertScalar(raw(message))
      return message => {
        const value = raw(message)
        return value === undefined ? undefined : convertScalar(value)
      }
    }
  }
}

function rawReaderOf({ localName, oneof }: DescField): (message: Message) => unknown {
  if (!oneof) return message => propertyOf(message, localName)
  return message => {
    const chosen = propertyOf(message, oneof.localName)
    return propertyOf(chosen, 'case') === localName ? propertyOf(chosen, 'value') : undefined
  }
}

const propertyOf = (value: unknown, name: string): unknown => (value as Record<string, unknown>)[name] // a field of the message's own schema

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

function converterOf(schema: DescMessage | undefined): (value: unknown) => CelValue {
  if (schema === undefined) return convertScalar
  const isTime = schema.typeName === TimestampSchema.typeName
  return value => {
    const message = value as Message // of this schema, as its field says
    return isTime ? reflect(schema, message) : celMap(new MessageFields(message, shapeOf(schema).fields))
  }
}

function convertScalar(value: unknown): CelValue {
  // The protocol has no fractions, so every number of it is an integer.
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return value
  return value instanceof Uint8Array ? value : null
}
