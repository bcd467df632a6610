import { fromJson, type JsonValue, toJson } from '@bufbuild/protobuf'
import { type Order, OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { type Outcome, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'

/** One line of the node's journal. `sequence` grows by one with each. */
export type JournalRecord = { readonly sequence: number; readonly operation: string; readonly at: Date } & (
  | { readonly kind: 'accepted'; readonly order: Order }
  | { readonly kind: 'started'; readonly phase: Phase }
  | {
      readonly kind: 'ended'
      readonly phase: Phase
      readonly exitCode: number | undefined
      readonly detail: string
    }
  /** The target is known: which host, what it was, and what ran before. */
  | {
      readonly kind: 'target'
      readonly host: string
      readonly targetDigest: string
      readonly previous: string
    }
  /** The system that was built or fetched. */
  | { readonly kind: 'system'; readonly storePath: string }
  | { readonly kind: 'outcome'; readonly outcome: Outcome }
  /** The coordinator has committed everything up to this sequence. */
  | { readonly kind: 'acknowledged'; readonly upTo: number; readonly outcome: boolean }
)

/** A record without what the journal itself adds. */
export type NewRecord = JournalRecord extends infer R
  ? R extends JournalRecord
    ? Omit<R, 'sequence' | 'at'>
    : never
  : never

/** Version of the lines' form; a reader refuses one it does not know. */
const VERSION = 1

export function encodeRecord(record: JournalRecord): string {
  const { sequence, operation, at, kind } = record
  const head = { v: VERSION, seq: sequence, op: operation, at: at.toISOString(), kind }
  switch (record.kind) {
    case 'accepted':
      return JSON.stringify({ ...head, order: toJson(OrderSchema, record.order) })
    case 'started':
      return JSON.stringify({ ...head, phase: record.phase })
    case 'ended':
      return JSON.stringify({
        ...head,
        phase: record.phase,
        exitCode: record.exitCode,
        detail: record.detail,
      })
    case 'target':
      return JSON.stringify({
        ...head,
        host: record.host,
        targetDigest: record.targetDigest,
        previous: record.previous,
      })
    case 'system':
      return JSON.stringify({ ...head, storePath: record.storePath })
    case 'outcome':
      return JSON.stringify({ ...head, outcome: toJson(OutcomeSchema, record.outcome) })
    case 'acknowledged':
      return JSON.stringify({ ...head, upTo: record.upTo, outcome: record.outcome })
  }
}

/** Reads one line; throws with what is wrong with it. */
export function decodeRecord(line: string): JournalRecord {
  const parsed: unknown = JSON.parse(line)
  if (typeof parsed !== 'object' || parsed === null) throw new Error('not an object')
  const fields = new Map<string, unknown>(Object.entries(parsed))
  if (fields.get('v') !== VERSION) throw new Error(`v: this program knows ${VERSION}`)
  const text = (name: string): string => {
    const value = fields.get(name)
    if (typeof value !== 'string') throw new Error(`${name}: must be text`)
    return value
  }
  const integer = (name: string): number => {
    const value = fields.get(name)
    if (typeof value !== 'number' || !Number.isSafeInteger(value))
      throw new Error(`${name}: must be an integer`)
    return value
  }
  // fromJson checks the value itself.
  const message = (name: string) => fields.get(name) as JsonValue
  const head = { sequence: integer('seq'), operation: text('op'), at: new Date(text('at')) }
  if (Number.isNaN(head.at.getTime())) throw new Error('at: not a time')
  const kind = text('kind')
  switch (kind) {
    case 'accepted':
      return { ...head, kind, order: fromJson(OrderSchema, message('order')) }
    case 'started':
      return { ...head, kind, phase: phaseOf(integer('phase')) }
    case 'ended':
      return {
        ...head,
        kind,
        phase: phaseOf(integer('phase')),
        exitCode: fields.has('exitCode') ? integer('exitCode') : undefined,
        detail: text('detail'),
      }
    case 'target':
      return {
        ...head,
        kind,
        host: text('host'),
        targetDigest: text('targetDigest'),
        previous: text('previous'),
      }
    case 'system':
      return { ...head, kind, storePath: text('storePath') }
    case 'outcome':
      return { ...head, kind, outcome: fromJson(OutcomeSchema, message('outcome')) }
    case 'acknowledged':
      return { ...head, kind, upTo: integer('upTo'), outcome: fields.get('outcome') === true }
    default:
      throw new Error(`kind: ${kind} is unknown`)
  }
}

function phaseOf(number: number): Phase {
  const known = Object.values(Phase).find(phase => phase === number)
  if (known === undefined || known === Phase.UNSPECIFIED) throw new Error(`phase: ${number} is unknown`)
  return known
}
