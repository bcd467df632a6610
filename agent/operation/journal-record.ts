import { fromJson, type JsonValue, toJson } from '@bufbuild/protobuf'
import { type Order, OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  type Outcome,
  OutcomeSchema,
  Phase,
  type SignedOutcome,
  SignedOutcomeSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { type Plan, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import { ARM_MODES, type ArmMode } from '../safety/arm-record.ts'

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
  /** What it would change. */
  | { readonly kind: 'plan'; readonly plan: Plan }
  /** The way back is armed; from here on the machine may be touched. A new round begins with it. */
  | {
      readonly kind: 'armed'
      readonly round: number
      readonly mode: ArmMode
      readonly bootId: string
      readonly target: string
      /** Units that had failed before. */
      readonly failedBefore: readonly string[]
      /** Kubernetes changes with the system: it is kept from being started until that is confirmed. */
      readonly kubernetes?: KubernetesMove | undefined
    }
  /** The switch was judged good. `instance` is the agent process that judged it, and must not be the one that confirms. */
  | { readonly kind: 'activated'; readonly instance: string; readonly degraded: readonly string[] }
  /** The agent has itself started anew, or the machine, which is told by its boot. */
  | { readonly kind: 'restart'; readonly instance: string }
  | { readonly kind: 'reboot'; readonly bootId: string }
  /** The gates held for the soak time. */
  | { readonly kind: 'proved'; readonly degraded: readonly string[] }
  /** The coordinator, the gates alone, or root on the node said that it is good. */
  | { readonly kind: 'confirmed'; readonly by: ConfirmedBy }
  /** It is the boot default. */
  | { readonly kind: 'promoted' }
  /** Kubernetes alone is moved, to the system of its own that was recorded, or restarted as it is. From here on nothing goes back by itself. */
  | { readonly kind: 'upgrade'; readonly kubernetes: KubernetesMove }
  /** The new Kubernetes was started, for the first time. */
  | { readonly kind: 'kubernetes-started' }
  /** It is well; or why it is not. Written once. */
  | { readonly kind: 'kubernetes-ended'; readonly failure: string | undefined }
  /** The wait for the coordinator was extended, because it announced its restart. */
  | { readonly kind: 'extended'; readonly byMs: number }
  | { readonly kind: 'outcome'; readonly outcome: Outcome; readonly signed?: SignedOutcome | undefined }
  /** The coordinator has committed everything up to this sequence. */
  | { readonly kind: 'acknowledged'; readonly upTo: number; readonly outcome: boolean }
)

/** What is about to happen to the Kubernetes of this machine. */
export interface KubernetesMove {
  readonly server: boolean
  /** Versions; empty: not known, or it stays. */
  readonly from: string
  readonly to: string
}

export const CONFIRMERS = ['coordinator', 'gates', 'hand'] as const
export type ConfirmedBy = (typeof CONFIRMERS)[number]

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
    case 'plan':
      return JSON.stringify({ ...head, plan: toJson(PlanSchema, record.plan) })
    case 'armed':
      return JSON.stringify({
        ...head,
        round: record.round,
        mode: record.mode,
        bootId: record.bootId,
        target: record.target,
        failedBefore: record.failedBefore,
        ...(record.kubernetes && { kubernetes: record.kubernetes }),
      })
    case 'activated':
      return JSON.stringify({ ...head, instance: record.instance, degraded: record.degraded })
    case 'restart':
      return JSON.stringify({ ...head, instance: record.instance })
    case 'reboot':
      return JSON.stringify({ ...head, bootId: record.bootId })
    case 'proved':
      return JSON.stringify({ ...head, degraded: record.degraded })
    case 'confirmed':
      return JSON.stringify({ ...head, by: record.by })
    case 'promoted':
    case 'kubernetes-started':
      return JSON.stringify(head)
    case 'upgrade':
      return JSON.stringify({ ...head, kubernetes: record.kubernetes })
    case 'kubernetes-ended':
      return JSON.stringify({ ...head, failure: record.failure })
    case 'extended':
      return JSON.stringify({ ...head, byMs: record.byMs })
    case 'outcome':
      return JSON.stringify({
        ...head,
        outcome: toJson(OutcomeSchema, record.outcome),
        ...(record.signed && { signed: toJson(SignedOutcomeSchema, record.signed) }),
      })
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
  const texts = (name: string): string[] => {
    const value = fields.get(name)
    if (!Array.isArray(value) || !value.every(item => typeof item === 'string')) {
      throw new Error(`${name}: must be a list of texts`)
    }
    return value
  }
  const choice = <const T extends string>(name: string, among: readonly T[]): T => {
    const value = among.find(one => one === fields.get(name))
    if (value === undefined) throw new Error(`${name}: must be one of ${among.join(', ')}`)
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
    case 'plan':
      return { ...head, kind, plan: fromJson(PlanSchema, message('plan')) }
    case 'armed':
      return {
        ...head,
        kind,
        round: integer('round'),
        mode: choice('mode', ARM_MODES),
        bootId: text('bootId'),
        target: text('target'),
        failedBefore: texts('failedBefore'),
        ...(fields.has('kubernetes') && { kubernetes: moveOf(fields.get('kubernetes')) }),
      }
    case 'activated':
      return { ...head, kind, instance: text('instance'), degraded: texts('degraded') }
    case 'restart':
      return { ...head, kind, instance: text('instance') }
    case 'reboot':
      return { ...head, kind, bootId: text('bootId') }
    case 'proved':
      return { ...head, kind, degraded: texts('degraded') }
    case 'confirmed':
      return { ...head, kind, by: choice('by', CONFIRMERS) }
    case 'promoted':
    case 'kubernetes-started':
      return { ...head, kind }
    case 'upgrade':
      return { ...head, kind, kubernetes: moveOf(fields.get('kubernetes')) }
    case 'kubernetes-ended':
      return { ...head, kind, failure: fields.has('failure') ? text('failure') : undefined }
    case 'extended':
      return { ...head, kind, byMs: integer('byMs') }
    case 'outcome':
      return {
        ...head,
        kind,
        outcome: fromJson(OutcomeSchema, message('outcome')),
        ...(fields.has('signed') && { signed: fromJson(SignedOutcomeSchema, message('signed')) }),
      }
    case 'acknowledged':
      return { ...head, kind, upTo: integer('upTo'), outcome: fields.get('outcome') === true }
    default:
      throw new Error(`kind: ${kind} is unknown`)
  }
}

function moveOf(value: unknown): KubernetesMove {
  const fields = new Map(typeof value === 'object' && value !== null ? Object.entries(value) : [])
  const [server, from, to] = [fields.get('server'), fields.get('from'), fields.get('to')]
  if (typeof server !== 'boolean' || typeof from !== 'string' || typeof to !== 'string') {
    throw new Error('kubernetes: must say server, from and to')
  }
  return { server, from, to }
}

function phaseOf(number: number): Phase {
  const known = Object.values(Phase).find(phase => phase === number)
  if (known === undefined || known === Phase.UNSPECIFIED) throw new Error(`phase: ${number} is unknown`)
  return known
}
