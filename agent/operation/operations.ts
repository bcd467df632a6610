import { create } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import {
  type ApplyOrder,
  type Assignment,
  AssignmentSchema,
  type LogLines,
  type OperationAck,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { OperationReport } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationsDeps } from './context.ts'
import { foldJournal, isUnreported, neededOperations, reportOf } from './fold.ts'
import { Journal } from './journal.ts'
import { readMemory } from './memory.ts'
import { OperationLog } from './operation-log.ts'
import { resumeOperation } from './resume.ts'
import { conclude, runOperation } from './run-operation.ts'

/** Ended operations whose records stay in the journal. */
const HISTORY = 50

/** The node's operations: durable, one at a time, each reported until the coordinator has it. */
export interface Operations extends AsyncDisposable {
  /** Takes an order; one that is known already is nothing new. Durable when it returns. */
  accept(order: ApplyOrder): Promise<void>
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
 * done for it; at start every operation without an outcome is either taken up again or concluded.
 */
export async function startOperations(deps: OperationsDeps, stop: AbortSignal): Promise<Operations> {
  const journal = await Journal.open(deps.stateDir, deps.clock, records => neededOperations(records, HISTORY))
  const listeners = new Set<() => void>()
  const changed = () => {
    for (const listener of listeners) listener()
  }
  const output = new OperationLog(changed)
  const states = () => foldJournal(journal.records)
  let assignment = create(AssignmentSchema)
  let memory = await readMemory(deps.stateDir)
  let queue: Promise<void> = Promise.resolve()

  const run = async (id: string) => {
    const state = states().get(id)
    if (!state || stop.aborted) return
    const resume = resumeOperation(state)
    if (resume.kind === 'finished') return
    if (resume.kind === 'conclude') {
      const { class: outcome, phase, reason } = resume
      await conclude(deps, journal, id, {
        class: outcome,
        refusal: '',
        reason,
        phase,
        storePath: state.storePath,
      })
      return changed()
    }
    output.begin(id)
    await runOperation(deps, journal, {
      order: state.order,
      assignment: () => assignment,
      signal: stop,
      say: line => output.add(line),
      changed,
    })
    output.end()
    memory = await readMemory(deps.stateDir)
  }
  const enqueue = (id: string) => {
    queue = queue
      .then(() => run(id))
      .catch((error: unknown) =>
        deps.log.error({ operationId: id, err: reasonOf(error) }, 'operation broke off'),
      )
  }
  for (const [id, state] of states()) if (!state.outcome) enqueue(id)

  return {
    async accept(order) {
      const { operationId } = order
      if (operationId === '' || operationId.length > 64) return
      if (states().has(operationId)) return changed() // reported again, done once
      await journal.append({ operation: operationId, kind: 'accepted', order })
      changed()
      enqueue(operationId)
    },
    reports: () => [...states().values()].filter(isUnreported).map(reportOf),
    async acknowledge(ack) {
      const state = states().get(ack.operationId)
      if (!state) return
      const upTo = Number(ack.sequence)
      const outcome = ack.outcome && state.outcome !== undefined
      if (upTo <= state.acknowledged && outcome === state.outcomeAcknowledged) return
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
