import type { CelInput } from '@bufbuild/cel'
import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import { isReflectMessage, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { FeatureSet_FieldPresence } from '@bufbuild/protobuf/wkt'
import { type Facts, FactsSchema } from '../gen/muster/v1/facts_pb.ts'

const TIMESTAMP = 'google.protobuf.Timestamp'
/** No list or map that an expression sees is longer. */
const MAX_LIST_LENGTH = 1_024

/** The facts as an expression sees them. */
export function factsToCel(facts: Facts): CelInput {
  return messageToCel(FactsSchema, facts)
}

/**
 * A message as an expression sees it: fields in camelCase, integers as CEL integers, lists always there. A field that
 * is not set is missing, so that using it is an error and `has()` tells: missing is not zero.
 */
export function messageToCel<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
): Map<string, CelInput> {
  return convertFields(reflect(schema, message))
}

function convertMessage(message: ReflectMessage): CelInput {
  return message.desc.typeName === TIMESTAMP ? message : convertFields(message)
}

function convertFields(message: ReflectMessage): Map<string, CelInput> {
  const fields = new Map<string, CelInput>() // no plain object: a label may be called __proto__
  for (const field of message.fields) {
    switch (field.fieldKind) {
      case 'list':
        fields.set(
          field.localName,
          Array.from(message.get(field)).slice(0, MAX_LIST_LENGTH).map(convertValue),
        )
        break
      case 'map': {
        const entries = Array.from(message.get(field)).slice(0, MAX_LIST_LENGTH)
        fields.set(
          field.localName,
          new Map(entries.map(([key, value]) => [String(key), convertValue(value)])),
        )
        break
      }
      case 'message':
        if (message.isSet(field)) fields.set(field.localName, convertMessage(message.get(field)))
        break
      case 'enum': {
        const number = message.get(field)
        fields.set(field.localName, field.enum.value[number]?.name ?? BigInt(number))
        break
      }
      case 'scalar':
        if (field.presence === FeatureSet_FieldPresence.IMPLICIT || message.isSet(field)) {
          fields.set(field.localName, convertValue(message.get(field)))
        }
    }
  }
  return fields
}

function convertValue(value: unknown): CelInput {
  if (isReflectMessage(value)) return convertMessage(value)
  // The protocol has no fractions, so every number of it is an integer.
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return value
  return value instanceof Uint8Array ? value : null
}
