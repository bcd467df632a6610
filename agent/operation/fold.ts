import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Order } from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  type OperationReport,
  OperationReportSchema,
  type Outcome,
  Phase,
  type PhaseRecord,
  PhaseRecordSchema,
  type SignedOutcome,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import type { Plan } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { ArmMode } from '../safety/arm-record.ts'
import type { ConfirmedBy, JournalRecord, KubernetesMove } from './journal-record.ts'

/** One operation as the journal tells it. */
export interface OperationState {
  readonly order: Order
  readonly acceptedAt: Date
  /** When its outcome was written. */
  readonly endedAt: Date | undefined
  readonly phases: readonly PhaseRecord[]
  /** The phase that was started and not ended. */
  readonly running: Phase | undefined
  /** How often the first phase was started and not broken off on purpose. */
  readonly attempts: number
  readonly host: string
  readonly targetDigest: string
  /** When its revision was accepted; undefined also for what brings none, such as a rollback. */
  readonly verifiedAt: Date | undefined
  /** Store path that ran when the operation began. */
  readonly previous: string
  readonly storePath: string
  readonly plan: Plan | undefined
  /** The newest round of changing the machine; undefined: nothing was touched. */
  readonly round: RoundState | undefined
  /** What becomes of Kubernetes, with the system of the newest round or by itself; undefined: nothing. */
  readonly kubernetes: KubernetesState | undefined
  /** The boot in which a reboot was asked for, and when. */
  readonly reboot: { readonly bootId: string; readonly at: Date } | undefined
  /** By how much the wait for the coordinator was extended; undefined: it was not. */
  readonly extendedMs: number | undefined
  readonly outcome: Outcome | undefined
  readonly signed: SignedOutcome | undefined
  /** Sequence of its newest phase. A phase's end is told with the next phase's start or with the outcome. */
  readonly newest: number
  /** Sequence up to which the coordinator knows it. */
  readonly acknowledged: number
  readonly outcomeAcknowledged: boolean
}

/** One round of changing the machine, as the journal tells it. */
export interface RoundState {
  readonly number: number
  readonly mode: ArmMode
  readonly bootId: string
  readonly target: string
  readonly failedBefore: readonly string[]
  readonly activationStarted: boolean
  /** The process that judged the switch good. */
  readonly activatedBy: string | undefined
  /** The process that had the agent started anew. */
  readonly restartedBy: string | undefined
  readonly rebootedFrom: string | undefined
  readonly proved: boolean
  readonly degraded: readonly string[]
  readonly confirmedBy: ConfirmedBy | undefined
  readonly promoted: boolean
}

/** A new Kubernetes, as the journal tells it. */
export interface KubernetesState extends KubernetesMove {
  readonly started: boolean
  /** undefined: it is not over. */
  readonly end: { readonly failure: string | undefined } | undefined
}

/** How a phase ends that was broken off on purpose: the agent stops, or the operation gives way. The work is not to blame. */
export const BROKEN_OFF = 'broken off, to be begun again'

type Draft = { -readonly [K in keyof OperationState]: OperationState[K] } & { phases: PhaseRecord[] }

/** All operations of a journal, in the order they were accepted. */
export function foldJournal(records: readonly JournalRecord[]): ReadonlyMap<string, OperationState> {
  const operations = new Map<string, Draft>()
  for (const record of records) {
    if (record.kind === 'accepted') {
      if (!operations.has(record.operation)) operations.set(record.operation, draftOf(record.order, record))
      continue
    }
    const state = operations.get(record.operation)
    // Records of an operation that a compaction left out keep nothing but the sequence.
    if (state) apply(state, record)
  }
  return operations
}

function draftOf(order: Order, { at }: JournalRecord): Draft {
  return {
    order,
    acceptedAt: at,
    endedAt: undefined,
    phases: [],
    running: undefined,
    attempts: 0,
    host: '',
    targetDigest: '',
    verifiedAt: undefined,
    previous: '',
    storePath: '',
    plan: undefined,
    round: undefined,
    kubernetes: undefined,
    reboot: undefined,
    extendedMs: undefined,
    outcome: undefined,
    signed: undefined,
    newest: 0,
    acknowledged: 0,
    outcomeAcknowledged: false,
  }
}

function apply(state: Draft, record: Exclude<JournalRecord, { kind: 'accepted' }>): void {
  switch (record.kind) {
    case 'started':
      if (record.phase === Phase.VERIFY) state.attempts += 1
      state.running = record.phase
      state.newest = record.sequence
      if (record.phase === Phase.ACTIVATE && state.round)
        state.round = { ...state.round, activationStarted: true }
      state.phases.push(
        create(PhaseRecordSchema, {
          sequence: BigInt(record.sequence),
          phase: record.phase,
          started: timestampFromDate(record.at),
        }),
      )
      return
    case 'ended': {
      state.running = undefined
      if (record.detail === BROKEN_OFF) state.attempts = Math.max(0, state.attempts - 1)
      const phase = state.phases.at(-1)
      if (phase?.phase !== record.phase) return
      phase.ended = timestampFromDate(record.at)
      phase.detail = record.detail
      if (record.exitCode !== undefined) phase.exitCode = record.exitCode
      return
    }
    case 'target':
      state.host = record.host
      state.targetDigest = record.targetDigest
      // What root orders here, such as a rollback, is taken without a coordinator, by a clock that may be years ahead.
      if (state.order.revision > 0n) state.verifiedAt = record.at
      state.previous = record.previous
      return
    case 'system':
      state.storePath = record.storePath
      return
    case 'plan':
      state.plan = record.plan
      return
    case 'armed': {
      const { round: number, mode, bootId, target, failedBefore } = record
      state.round = { ...freshRound, number, mode, bootId, target, failedBefore }
      state.kubernetes = record.kubernetes && { ...record.kubernetes, ...freshKubernetes }
      return
    }
    case 'activated':
    case 'restart':
    case 'reboot':
    case 'proved':
    case 'confirmed':
    case 'promoted':
      if (record.kind === 'reboot') state.reboot = { bootId: record.bootId, at: record.at }
      if (state.round) state.round = inRound(state.round, record)
      return
    case 'upgrade':
      state.kubernetes = { ...record.kubernetes, ...freshKubernetes }
      return
    case 'kubernetes-started':
      if (state.kubernetes) state.kubernetes = { ...state.kubernetes, started: true }
      return
    case 'kubernetes-ended':
      // Written once, as an outcome is.
      if (state.kubernetes && !state.kubernetes.end) {
        state.kubernetes = { ...state.kubernetes, end: { failure: record.failure } }
      }
      return
    case 'extended':
      state.extendedMs = record.byMs
      return
    case 'outcome':
      // Written once: whatever came later would hide the first cause.
      if (state.outcome === undefined) {
        state.outcome = record.outcome
        state.endedAt = record.at
        state.signed = record.signed
      }
      state.running = undefined
      return
    case 'acknowledged':
      state.acknowledged = Math.max(state.acknowledged, record.upTo)
      state.outcomeAcknowledged ||= record.outcome
      return
  }
}

const freshKubernetes = { started: false, end: undefined } as const

const freshRound = {
  activationStarted: false,
  activatedBy: undefined,
  restartedBy: undefined,
  rebootedFrom: undefined,
  proved: false,
  degraded: [],
  confirmedBy: undefined,
  promoted: false,
} as const

type RoundRecord = Extract<
  JournalRecord,
  { kind: 'activated' | 'restart' | 'reboot' | 'proved' | 'confirmed' | 'promoted' }
>

function inRound(round: RoundState, record: RoundRecord): RoundState {
  switch (record.kind) {
    case 'activated':
      return { ...round, activatedBy: record.instance, degraded: record.degraded }
    case 'restart':
      return { ...round, restartedBy: record.instance }
    case 'reboot':
      return { ...round, rebootedFrom: record.bootId, proved: false }
    case 'proved':
      return { ...round, proved: true, degraded: [...new Set([...round.degraded, ...record.degraded])] }
    case 'confirmed':
      return { ...round, confirmedBy: record.by }
    case 'promoted':
      return { ...round, promoted: true }
  }
}

/**
 * The latest time at which this node accepted a revision: its clock was right then, by the coordinator's word. What a
 * clock says now may be behind it, after an empty battery.
 */
export function provenTime(states: Iterable<OperationState>): Date | undefined {
  let latest: Date | undefined
  for (const { verifiedAt } of states) {
    if (verifiedAt && (!latest || verifiedAt > latest)) latest = verifiedAt
  }
  return latest
}

/** Whether the coordinator still lacks something of an operation. */
export function isUnreported(state: OperationState): boolean {
  return state.acknowledged < state.newest || (state.outcome !== undefined && !state.outcomeAcknowledged)
}

/** The whole state of an operation as it is told to the coordinator. */
export function reportOf(state: OperationState): OperationReport {
  return create(OperationReportSchema, {
    operationId: state.order.operationId,
    revision: state.order.revision,
    manifestDigest: state.order.manifestDigest,
    phases: [...state.phases],
    host: state.host,
    action: actionOf(state.order),
    ...(state.plan && { plan: state.plan }),
    ...(state.outcome && { outcome: state.outcome }),
    ...(state.signed && { signedOutcome: state.signed }),
    ...(state.order.rollout && { rollout: state.order.rollout }),
  })
}

export type Action =
  | 'apply'
  | 'plan'
  | 'upgrade'
  | 'rollback'
  | 'reboot'
  | 'restart'
  | 'hold'
  | 'resume'
  | 'retry'

/** What an order asks for. */
export function actionOf({ action }: Order): Action {
  if (action.case === undefined) return 'apply'
  return action.case === 'apply' && action.value.planOnly ? 'plan' : action.case
}

/** Operations whose records a compaction must keep: all unreported ones, and the newest `history` of the others. */
export function neededOperations(records: readonly JournalRecord[], history: number): ReadonlySet<string> {
  const operations = [...foldJournal(records)]
  const done = operations.filter(([, state]) => state.outcome && !isUnreported(state))
  const forgotten = new Set(done.slice(0, Math.max(0, done.length - history)).map(([id]) => id))
  return new Set(operations.map(([id]) => id).filter(id => !forgotten.has(id)))
}
