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
} from '../../shared/gen/muster/v1/operation_pb.ts'
import type { JournalRecord } from './journal-record.ts'

/** One operation as the journal tells it. */
export interface OperationState {
  readonly order: Order
  readonly acceptedAt: Date
  readonly phases: readonly PhaseRecord[]
  /** The phase that was started and not ended. */
  readonly running: Phase | undefined
  /** How often the first phase was started. */
  readonly attempts: number
  readonly host: string
  readonly targetDigest: string
  /** When its revision was accepted. */
  readonly verifiedAt: Date | undefined
  /** Store path that ran when the operation began. */
  readonly previous: string
  readonly storePath: string
  readonly outcome: Outcome | undefined
  /** Sequence of its newest phase. A phase's end is told with the next phase's start or with the outcome. */
  readonly newest: number
  /** Sequence up to which the coordinator knows it. */
  readonly acknowledged: number
  readonly outcomeAcknowledged: boolean
}

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
    phases: [],
    running: undefined,
    attempts: 0,
    host: '',
    targetDigest: '',
    verifiedAt: undefined,
    previous: '',
    storePath: '',
    outcome: undefined,
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
      state.verifiedAt = record.at
      state.previous = record.previous
      return
    case 'system':
      state.storePath = record.storePath
      return
    case 'outcome':
      // Written once: whatever came later would hide the first cause.
      state.outcome ??= record.outcome
      state.running = undefined
      return
    case 'acknowledged':
      state.acknowledged = Math.max(state.acknowledged, record.upTo)
      state.outcomeAcknowledged ||= record.outcome
      return
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
    ...(state.outcome && { outcome: state.outcome }),
  })
}

/** Operations whose records a compaction must keep: all unreported ones, and the newest `history` of the others. */
export function neededOperations(records: readonly JournalRecord[], history: number): ReadonlySet<string> {
  const operations = [...foldJournal(records)]
  const done = operations.filter(([, state]) => state.outcome && !isUnreported(state))
  const forgotten = new Set(done.slice(0, Math.max(0, done.length - history)).map(([id]) => id))
  return new Set(operations.map(([id]) => id).filter(id => !forgotten.has(id)))
}
