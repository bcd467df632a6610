import type { DescField, DescMessage } from '@bufbuild/protobuf'
import { ScalarType } from '@bufbuild/protobuf'
import { TimestampSchema } from '@bufbuild/protobuf/wkt'
import { NodeStatusSchema } from '../gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../gen/muster/v1/facts_pb.ts'

/** What can be known of a value without evaluating anything. Undefined: nothing. */
export type Known =
  | { readonly kind: 'text' | 'number' | 'yes or no' | 'time' }
  | { readonly kind: 'object'; readonly names: readonly string[]; readonly fieldOf: (name: string) => Known }
  | { readonly kind: 'list'; readonly of: Known | undefined }
  | { readonly kind: 'map'; readonly of: Known | undefined }
  | undefined

export const TEXT = { kind: 'text' } as const
export const NUMBER = { kind: 'number' } as const
export const YES_OR_NO = { kind: 'yes or no' } as const
export const TIME = { kind: 'time' } as const
const TEXTS = { kind: 'list', of: TEXT } as const

function objectOf(fields: Readonly<Record<string, Known>>): Known {
  return { kind: 'object', names: Object.keys(fields), fieldOf: name => fields[name] }
}

function messageOf(schema: DescMessage): Known {
  const names = schema.fields.map(({ localName }) => localName)
  return { kind: 'object', names, fieldOf: name => knownOfField(schema, name) }
}

function knownOfField(schema: DescMessage, name: string): Known {
  const field = schema.fields.find(({ localName }) => localName === name)
  switch (field?.fieldKind) {
    case 'list':
      return { kind: 'list', of: knownOfPart(field) }
    case 'map':
      return { kind: 'map', of: knownOfPart(field) }
    case 'message':
    case 'scalar':
      return knownOfPart(field)
    case 'enum':
      // A text, or a number that this program has no name for.
      return undefined
    case undefined:
      return undefined
  }
}

function knownOfPart({ message, scalar }: DescField): Known {
  if (message?.typeName === TimestampSchema.typeName) return TIME
  if (message !== undefined) return messageOf(message)
  if (scalar === ScalarType.STRING) return TEXT
  if (scalar === ScalarType.BOOL) return YES_OR_NO
  return scalar === undefined || scalar === ScalarType.BYTES ? undefined : NUMBER
}

/** What the variables hold; docs/reference/query.md says the same. Of `live` only probes tell. */
export const VARIABLE_TYPES: ReadonlyMap<string, Known> = new Map([
  ['facts', messageOf(FactsSchema)],
  ['node', messageOf(NodeStatusSchema)],
  ['host', TEXT],
  ['labels', { kind: 'map', of: TEXT }],
  ['now', TIME],
  [
    'machine',
    objectOf({
      id: TEXT,
      product: TEXT,
      serial: TEXT,
      uuid: TEXT,
      address: TEXT,
      agentVersion: TEXT,
      admittedBy: TEXT,
      simulated: YES_OR_NO,
    }),
  ],
  [
    'status',
    objectOf({
      state: TEXT,
      online: YES_OR_NO,
      group: TEXT,
      boundBy: TEXT,
      conditions: TEXTS,
      highestRevision: NUMBER,
      appliedRevision: NUMBER,
      rebootReasons: TEXTS,
      trustNumber: NUMBER,
      held: YES_OR_NO,
      quarantined: NUMBER,
      firstSeen: TIME,
      lastSeen: TIME,
      certificateEnds: TIME,
    }),
  ],
  [
    'cluster',
    objectOf({
      name: TEXT,
      role: TEXT,
      distribution: TEXT,
      asOf: TIME,
      part: TEXT,
      data: TEXT,
      version: TEXT,
      serverReady: YES_OR_NO,
      nodeReady: YES_OR_NO,
      nodeVersion: TEXT,
      voter: YES_OR_NO,
    }),
  ],
])
