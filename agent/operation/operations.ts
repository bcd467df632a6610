import { create } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import {
  type Assignment,
  AssignmentSchema,
  type LogLines,
  type OperationAck,
  type Order,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { OperationReport } from '../../shared/gen/muster/v1/operation_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { OperationsDeps } from './context.ts'
import { foldJournal, isUnreported, neededOperations, type OperationState, reportOf } from './fold.ts'
import { Journal } from './journal.ts'
import { readMemory } from './memory.ts'
import { OperationLog } from './operation-log.ts'
import { resumeOperation } from './resume.ts'
import { keepRoots } from './roots.ts'
import { conclude, runOperation } from './run-operation.ts'

/** Ended operations whose records stay in the journal. */
const HISTORY = 50
/** Operations without an outcome that this node takes on; a coordinator has one for each of its machines. */
const MAX_OPEN = 32
/**
 * Operations of which the coordinator lacks something. Their records survive every compaction, so one that never
 * acknowledges could otherwise fill the disk with orders.
 */
const MAX_UNREPORTED = 64

/** The node's operations: durable, one at a time, each reported until the coordinator has it. */
export interface Operations extends AsyncDisposable {
  /** Takes an order; one that is known already is nothing new, whatever else it says. Durable when it returns. */
  accept(order: Order): Promise<void>
  /** Everything the coordinator has not acknowledged. */
  reports(): readonly OperationReport[]
  acknowledge(ack: OperationAck): Promise<void>
  /** Output that was not sent yet. */
  logs(): readonly LogLines[]
  logSent(lines: LogLines): void
  /** Calls back when there is something to send. */
  onChange(listener: () => void): () => void
  journalSequence(): bigint
  /** For Hello: what this node ever accepted, and as whom. */
  memory(): { readonly highest: bigint; readonly highestDigest: string; readonly host: string }
  setAssignment(assignment: Assignment): void
  /** Newest first. */
  history(): readonly OperationReport[]
}

/**
 * INVARIANTS: one operation runs at a time, in the order of acceptance; an order is in the journal before anything is
 * done for it; at start, and after a failure of the agent itself (such as a full disk), every operation without an
 * outcome is either taken up again or concluded.
 */
export async function startOperations(deps: OperationsDeps, stop: AbortSignal): Promise<Operations> {
  const journal = await Journal.open(deps.stateDir, deps.clock, records => neededOperations(records, HISTORY))
  const listeners = new Set<() => void>()
  const changed = () => {
    for (const listener of listeners) listener()
  }
  const output = new OperationLog(changed)
  // Asked for at every line of output: folded anew only when the journal grew.
  let folded = { sequence: -1, states: foldJournal([]) }
  const states = (): ReadonlyMap<string, OperationState> => {
    const { sequence } = journal
    if (folded.sequence !== sequence) folded = { sequence, states: foldJournal(journal.records) }
    return folded.states
  }
  let assignment = create(AssignmentSchema)
  let memory = await readMemory(deps.stateDir)
  let queue: Promise<void> = Promise.resolve()

  const run = async (id: string) => {
    const state = states().get(id)
    if (!state || stop.aborted) return
    const resume = resumeOperation(state)
    if (resume.kind === 'finished') return
    if (resume.kind === 'conclude') {
      const { kind: _, ...rest } = resume
      await conclude(deps, journal, id, { ...rest, storePath: state.storePath })
      return changed()
    }
    output.begin(id)
    try {
      await runOperation(deps, journal, {
        order: state.order,
        assignment: () => assignment,
        earlier: [...states().values()],
        // A session that opens in the middle of the operation must not tell of less than a report already did.
        remembered: next => {
          memory = next
        },
        signal: stop,
        say: line => output.add(line),
        lastLine: () => output.end(),
        changed,
      })
    } finally {
      output.end()
    }
    await keepRoots(deps.stateDir, id)
    await journal.compact()
  }
  /** Nobody else would take up an operation that broke off, so it is tried until it has an outcome. */
  const runToEnd = async (id: string) => {
    for (let attempt = 0; !stop.aborted; attempt++) {
      try {
        return await run(id)
      } catch (error) {
        deps.log.error({ operationId: id, err: reasonOf(error) }, 'operation broke off')
      }
      await pause(backoffMs(attempt, deps.config.retry), stop)
    }
  }
  const enqueue = (id: string) => {
    queue = queue.then(() => runToEnd(id))
  }
  for (const [id, state] of states()) if (!state.outcome) enqueue(id)

  return {
    async accept(order) {
      const { operationId } = order
      if (!/^[A-Za-z0-9._-]{1,64}$/.test(operationId) || /^\.+$/.test(operationId)) {
        return deps.log.warn(
          { operationId: operationId.slice(0, 64) },
          'order without a usable id passed over',
        )
      }
      // Nothing else names a manifest, and it is written down as it came.
      if (!isDigest(order.manifestDigest)) {
        return deps.log.warn({ operationId }, 'order without the digest of a manifest passed over')
      }
      const known = states().get(operationId)
      if (known) {
        // Reported again, done once. What is done is what was accepted; another order under its id is none.
        const { revision, manifestDigest } = known.order
        if (revision !== order.revision || manifestDigest !== order.manifestDigest)
          deps.log.warn({ operationId }, 'order passed over: this id was used for another one')
        return changed()
      }
      const others = [...states().values()]
      const unreported = others.filter(isUnreported).length
      if (unreported >= MAX_UNREPORTED) {
        return deps.log.warn({ operationId, unreported }, 'order passed over: too many are unacknowledged')
      }
      const open = others.filter(state => !state.outcome).length
      if (open >= MAX_OPEN) return deps.log.warn({ operationId, open }, 'order passed over: too many wait')
      await journal.append({ operation: operationId, kind: 'accepted', order })
      changed()
      enqueue(operationId)
    },
    reports: () => [...states().values()].filter(isUnreported).map(reportOf),
    async acknowledge(ack) {
      const state = states().get(ack.operationId)
      if (!state) return
      // Nobody can have committed more than there is.
      const newest = BigInt(state.newest)
      const upTo = Number(ack.sequence < newest ? ack.sequence : newest)
      const outcome = ack.outcome && state.outcome !== undefined
      if (upTo <= state.acknowledged && (!outcome || state.outcomeAcknowledged)) return
      await journal.append({ operation: ack.operationId, kind: 'acknowledged', upTo, outcome })
    },
    logs: () => output.waiting(),
    logSent: lines => output.sent(lines),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    journalSequence: () => BigInt(journal.sequence),
    memory() {
      const known = memory.kind === 'known' ? memory : undefined
      return {
        highest: BigInt(known?.highest ?? 0),
        highestDigest: known?.highestDigest ?? '',
        host: known?.host ?? '',
      }
    },
    setAssignment(next) {
      assignment = next
    },
    history: () => [...states().values()].map(reportOf).toReversed(),
    async [Symbol.asyncDispose]() {
      await queue
      await journal[Symbol.asyncDispose]()
    },
  }
}
