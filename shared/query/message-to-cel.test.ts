import { type CelInput, type CelMap, type CelValue, celMap } from '@bufbuild/cel'
import {
  create,
  type DescField,
  type DescMessage,
  type Message,
  type MessageShape,
  ScalarType,
  toBinary,
} from '@bufbuild/protobuf'
import { isReflectMessage, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { FeatureSet_FieldPresence } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NodeStatusSchema } from '../gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../gen/muster/v1/facts_pb.ts'
import { MachineSchema } from '../gen/muster/v1/machine_pb.ts'
import {
  DisksAnswerSchema,
  JournalAnswerSchema,
  LiveProbeSchema,
  PortsAnswerSchema,
  UnitsAnswerSchema,
} from '../gen/muster/v1/probe_pb.ts'
import { celToJson } from './cel-to-json.ts'
import { compileExpression } from './expression.ts'
import { encodedToCel, messageToCel } from './message-to-cel.ts'

/** The same by reflection and all at once: what is read lazily has to equal it. */
function convertAll(message: ReflectMessage): Map<string, CelInput> {
  const fields = new Map<string, CelInput>()
  for (const field of message.fields) {
    if (field.fieldKind === 'list') {
      fields.set(field.localName, Array.from(message.get(field)).slice(0, 1_024).map(convertOne))
    } else if (field.fieldKind === 'map') {
      const entries = Array.from(message.get(field)).slice(0, 1_024)
      fields.set(field.localName, new Map(entries.map(([key, value]) => [String(key), convertOne(value)])))
    } else if (field.fieldKind === 'message') {
      if (message.isSet(field)) fields.set(field.localName, convertOne(message.get(field)))
    } else if (field.fieldKind === 'enum') {
      const number = message.get(field)
      fields.set(field.localName, field.enum.value[number]?.name ?? BigInt(number))
    } else if (field.presence === FeatureSet_FieldPresence.IMPLICIT || message.isSet(field)) {
      fields.set(field.localName, convertOne(message.get(field)))
    }
  }
  return fields
}

function convertOne(value: unknown): CelInput {
  if (isReflectMessage(value)) {
    return value.desc.typeName === 'google.protobuf.Timestamp' ? value : convertAll(value)
  }
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return value
  return value instanceof Uint8Array ? value : null
}

/** Any message of a schema, with any of its fields set. */
function anyMessage<D extends DescMessage>(schema: D): fc.Arbitrary<MessageShape<D>> {
  const fills = schema.fields.map(field => fc.option(anyFill(field), { freq: 4 }))
  return fc.tuple(...fills).map(chosen => {
    const message = reflect(schema, create(schema))
    for (const fill of chosen) fill?.(message)
    return message.message as MessageShape<D>
  })
}

type Fill = (message: ReflectMessage) => void

function anyFill(field: DescField): fc.Arbitrary<Fill> {
  const one = anyValue(field)
  if (field.fieldKind === 'list') {
    return fc.array(one, { maxLength: 3 }).map(items => message => {
      for (const item of items) message.get(field).add(item as never)
    })
  }
  if (field.fieldKind === 'map') {
    const key = fc.constantFrom('a', 'b', '__proto__', '7')
    return fc.array(fc.tuple(key, one), { maxLength: 3 }).map(entries => message => {
      for (const [name, value] of entries) message.get(field).set(name, value as never)
    })
  }
  return one.map(value => message => message.set(field, value as never))
}

function anyValue({ message, enum: names, scalar }: DescField): fc.Arbitrary<unknown> {
  if (message) return anyMessage(message).map(value => reflect(message, value as Message))
  if (names) return fc.integer({ min: 0, max: names.values.length + 1 })
  if (scalar === ScalarType.STRING) return fc.string({ maxLength: 4 })
  if (scalar === ScalarType.BOOL) return fc.boolean()
  if (scalar === ScalarType.BYTES) return fc.uint8Array({ maxLength: 4 })
  if (scalar === ScalarType.DOUBLE) return fc.double()
  if (scalar === ScalarType.UINT32 || scalar === ScalarType.INT32) return fc.nat(9)
  return fc.bigInt(0n, 9n)
}

const SCHEMAS: readonly DescMessage[] = [
  FactsSchema,
  NodeStatusSchema,
  UnitsAnswerSchema,
  DisksAnswerSchema,
  PortsAnswerSchema,
  JournalAnswerSchema,
  // With a choice of messages, an enum and a map of texts.
  LiveProbeSchema,
  MachineSchema,
]

const WAYS: readonly (readonly [string, (schema: DescMessage, message: Message) => CelMap])[] = [
  ['decoded', messageToCel],
  ['encoded', (schema, message) => encodedToCel(schema, toBinary(schema, message))],
  // A list whose entries do not stand side by side, which other programs may write.
  [
    'encoded in two halves',
    (schema, message) => {
      const halves = [1, 0].map(odd => {
        const half = create(schema)
        const [from, to] = [reflect(schema, message), reflect(schema, half)]
        for (const [at, field] of from.fields.entries()) {
          if (field.fieldKind === 'list') {
            const items = Array.from(from.get(field))
            const middle = Math.floor(items.length / 2)
            const own = odd ? items.slice(0, middle) : items.slice(middle)
            for (const item of own) to.get(field).add(item as never)
          } else if (at % 2 === odd && field.fieldKind !== 'map' && from.isSet(field)) {
            to.set(field, from.get(field))
          } else if (odd === 0 && field.fieldKind === 'map') {
            for (const [key, value] of from.get(field)) to.get(field).set(key, value as never)
          }
        }
        return toBinary(schema, half)
      })
      return encodedToCel(schema, Buffer.concat(halves))
    },
  ],
]

describe('a message as expressions see it', () => {
  it.each(SCHEMAS.flatMap(schema => WAYS.map(([way, see]) => [schema.typeName, way, schema, see] as const)))(
    '%s, %s: what is read when it is asked for equals a conversion of all',
    (_name, _way, schema, see) => {
      fc.assert(
        fc.property(anyMessage(schema), fc.shuffledSubarray(namesOf(schema)), (message, first) => {
          const whole = celMap(convertAll(reflect(schema, message)))
          const lazy = see(schema, message)
          // Some fields first, in any order, so that what is kept of them is what is read afterwards.
          for (const name of first) {
            expect(lazy.has(name)).toBe(whole.has(name))
            expect(shown(lazy.get(name))).toEqual(shown(whole.get(name)))
            expect(lazy.get(name)).toBe(lazy.get(name))
          }
          expect(lazy.size).toBe(whole.size)
          expect([...lazy.keys()]).toEqual([...whole.keys()])
          expect(shown(lazy)).toEqual(shown(whole))
          for (const name of ['constructor', '$typeName', '$unknown', '__proto__', 'get', 7n, true]) {
            expect(lazy.get(name)).toBeUndefined()
          }
        }),
      )
    },
  )

  it.each(WAYS)('%s: gives expressions the same values and errors as a conversion of all', (_way, see) => {
    fc.assert(
      fc.property(anyMessage(FactsSchema), facts => {
        const whole = convertAll(reflect(FactsSchema, facts))
        const lazy = see(FactsSchema, facts)
        for (const expression of EXPRESSIONS) {
          const given = expression.evaluate({ facts: lazy })
          const wanted = expression.evaluate({ facts: whole })
          expect(given.kind === 'value' ? shown(given.value) : given).toEqual(
            wanted.kind === 'value' ? shown(wanted.value) : wanted,
          )
        }
      }),
    )
  })

  it('hides what it is told to hide, in every way of looking', () => {
    const message = create(NodeStatusSchema, { failedUnits: ['a.service'], program: '/agent' })
    const lazy = messageToCel(NodeStatusSchema, message, ['failedUnits'])
    expect(lazy.get('failedUnits')).toBeUndefined()
    expect(lazy.has('failedUnits')).toBe(false)
    expect([...lazy.keys()]).not.toContain('failedUnits')
    expect(lazy.get('program')).toBe('/agent')
    expect(messageToCel(NodeStatusSchema, message).has('failedUnits')).toBe(true)
  })

  it('shows no list longer than its bound', () => {
    const facts = create(FactsSchema, { warnings: Array.from({ length: 2_000 }, () => 'w') })
    expect(shown(messageToCel(FactsSchema, facts).get('warnings'))).toHaveLength(1_024)
  })
})

const namesOf = (schema: DescMessage) => schema.fields.map(({ localName }) => localName)

const shown = (value: CelValue | undefined) => (value === undefined ? undefined : celToJson(value))

const EXPRESSIONS = [
  'facts',
  'facts.system',
  'facts.system.product',
  'has(facts.system) && has(facts.system.product)',
  'facts.disks.exists(d, d.size > 4)',
  'facts.disks.map(d, d.name)',
  'facts.disks == facts.disks.filter(d, true)',
  'facts == facts',
  'size(facts)',
  'facts.os == {"id": "a"}',
  '"id" in facts.os',
  'facts["cpu"]["cores"] + 1',
  'facts.os.bootedAt < timestamp("2027-01-01T00:00:00Z")',
  'facts.interfaces.map(i, i.addresses)',
  'type(facts.simulated) == bool && facts.disks[0].removable',
  'facts.all(field, field != "nothing")',
].map(text => {
  const compiled = compileExpression(text)
  if (compiled.kind === 'refused') throw new Error(`${text}: ${compiled.reason}`)
  return compiled.expression
})
