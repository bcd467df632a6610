import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { reasonOf } from '../../shared/errors.ts'
import {
  type Assignment,
  AssignmentSchema,
  type LogLines,
  type NodeStatus,
  type OperationAck,
  type Order,
  OrderSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { OperationReport } from '../../shared/gen/muster/v1/operation_pb.ts'
import { isDigest, randomId } from '../../shared/ids.ts'
import { openToMany, pause } from '../../shared/lifecycle.ts'
import { backoffMs, jittered } from '../../shared/retry.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import type { GateAnswer } from '../gates/gate-answer.ts'
import { changeDeadline, leftUntil } from '../safety/deadline.ts'
import { armFolder, prepareArmFolder } from '../safety/operation-folder.ts'
import { readBootTime } from '../safety/uptime.ts'
import { readVerdict } from '../safety/verdict.ts'
import { currentSystem } from '../system/system-links.ts'
import { agentTime } from './agent-time.ts'
import { askGates } from './ask-gates.ts'
import type { OperationsDeps } from './context.ts'
import {
  actionOf,
  foldJournal,
  isUnreported,
  neededOperations,
  type OperationState,
  reportOf,
} from './fold.ts'
import { HandConfirmation } from './hand-confirmation.ts'
import { Journal } from './journal.ts'
import { readMemory } from './memory.ts'
import { type NodeMemory, readNodeMemory, writeNodeMemory } from './node-memory.ts'
import { describeNode, readMachineStatus } from './node-status.ts'
import { OperationLog } from './operation-log.ts'
import { keepRoots } from './roots.ts'
import { runOperation } from './run-operation.ts'
import { givesWay, isLocal, LOCAL, nextTurn } from './turns.ts'

/** Ended operations whose records stay in the journal. */
const HISTORY = 50
/** Operations without an outcome that this node takes on; a coordinator has one for each of its machines. */
const MAX_OPEN = 32
/** Actions that arm a way back. */
const ARMED: readonly string[] = ['apply', 'rollback']
/**
 * Operations of which the coordinator lacks something. Their records survive every compaction, so one that never
 * acknowledges could otherwise fill the disk with orders.
 */
const MAX_UNREPORTED = 64
/** How long an order that root gives on this machine may wait before it is begun. */
const LOCAL_ORDER_MS = 3_600_000

/** An operation that is not over, or of which a coordinator lacks something. */
export interface Untold {
  readonly operationId: string
  readonly acceptedAt: Date
}

/** The node's operations: durable, one at a time, each reported until the coordinator has it. */
export interface Operations extends AsyncDisposable {
  /**
   * Takes an order; one that is known already is nothing new, whatever else it says. When it returns the order is durable, or
   * passed over and logged.
   */
  accept(order: Order): Promise<void>
  /** Takes an order that root gives on this machine; its id. Throws FAILED_PRECONDITION where it cannot be taken. */
  acceptLocal(order: Order): Promise<string>
  /** Confirms the operation that waits for it, in the coordinator's place; its id. */
  confirmByHand(operation: string): string
  /** The coordinator goes away for a while, as it planned: what waits for its answer may wait longer, once. */
  coordinatorRestarts(expectedMs: number): Promise<void>
  /** Everything the coordinator has not acknowledged. */
  reports(): readonly OperationReport[]
  acknowledge(ack: OperationAck): Promise<void>
  /** Has operations told of anew, as far as this node knows them. */
  tellAgain(operationIds: readonly string[]): void
  /** Has all operations told of anew that a coordinator may have ordered. */
  tellAll(): void
  /** Output that was not sent yet. */
  logs(): readonly LogLines[]
  logSent(lines: LogLines): void
  /** Calls back when there is something to send. */
  onChange(listener: () => void): () => void
  journalSequence(): bigint
  /** For Hello: the newest record that a coordinator acknowledged, and what is not over for both. */
  told(): { readonly acknowledged: bigint; readonly untold: readonly Untold[] }
  /** For Hello: what this node ever accepted, and as whom. */
  memory(): { readonly highest: bigint; readonly highestDigest: string; readonly host: string }
  /** Asks once the gates by which this node is proved. Throws where they are not known. */
  askGates(signal: AbortSignal): Promise<readonly GateAnswer[]>
  /** What the node holds on to. */
  nodeStatus(): NodeStatus
  setAssignment(assignment: Assignment): void
  /** Newest first. */
  history(): readonly OperationReport[]
}

/** How often the failed units are looked at, and which system runs. */
const LOOK_EVERY_MS = 60_000

/**
 * INVARIANTS: one operation runs at a time, in the order of acceptance, but that root's own orders wait for none of a
 * coordinator's that has armed nothing yet: it is broken off for them, and begun again; an order is in the journal before
 * anything is done for it; at start, and after a failure of the agent itself (such as a full disk), every operation without an
 * outcome is taken up again, from wherever disk and machine say it is.
 */
export async function startOperations(deps: OperationsDeps, stop: AbortSignal): Promise<Operations> {
  const journal = await Journal.open(
    deps.stateDir,
    deps.clock,
    records => neededOperations(records, HISTORY),
    reason => deps.log.warn({ reason }, 'journal could not be made smaller'),
  )
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
  let nodeMemory = await readNodeMemory(deps.stateDir)
  let machineStatus = await readMachineStatus(deps)
  let failed: readonly string[] | undefined
  const describe = () =>
    describeNode(
      { ...machineStatus, failedUnits: [...(failed ?? [])], unitsRead: failed !== undefined },
      nodeMemory,
    )
  let status = describe()
  const hand = new HandConfirmation()
  /** Accepted and neither running nor over. */
  const waiting = new Set<string>()
  /** What runs, and how it is broken off. */
  let running: { readonly id: string; readonly cut: AbortController } | undefined
  let queue: Promise<void> = Promise.resolve()
  // What the coordinator asked about though it may have acknowledged it: its store was restored, and it knows less than it did. In
  // memory alone, since it asks at every connection.
  const askedAgain = new Set<string>()

  const remember = async (next: NodeMemory) => {
    await writeNodeMemory(deps.stateDir, next, () => journal.giveUpReserve())
    nodeMemory = next
    status = describe()
    changed()
  }
  const waitingStates = () => [...states().values()].filter(({ order }) => waiting.has(order.operationId))
  /** Asked whenever something was accepted or went on: what runs may have become what gives way no more, or again. */
  const letRootFirst = () => {
    const state = running && states().get(running.id)
    if (running && state && !state.outcome && givesWay(state, waitingStates())) running.cut.abort()
  }
  const run = async (id: string, signal: AbortSignal) => {
    const state = states().get(id)
    if (!state || state.outcome || signal.aborted) return
    output.begin(id)
    try {
      await runOperation(deps, journal, {
        order: state.order,
        assignment: () => assignment,
        states,
        // A session that opens in the middle of the operation must not tell of less than a report already did.
        remembered: next => {
          memory = next
        },
        nodeMemory: () => nodeMemory,
        remember,
        signal,
        say: line => output.add(line),
        lastLine: () => output.end(),
        changed: () => {
          changed()
          letRootFirst()
        },
        confirmedByHand: signal => hand.wait(id, signal),
      })
    } finally {
      output.end()
      // Whatever became of it: what was undone was changed twice.
      deps.outdateFacts()
    }
    if (stop.aborted || (signal.aborted && !states().get(id)?.outcome)) return
    await keepRoots(deps.stateDir, id)
    await journal.compact()
    machineStatus = await readMachineStatus(deps)
    status = describe()
    changed()
  }
  /** Nobody else would take up an operation that broke off, so it is tried until it has an outcome or gives way. */
  const runToEnd = async (id: string, signal: AbortSignal) => {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        return await run(id, signal)
      } catch (error) {
        deps.log.error({ operationId: id, err: reasonOf(error) }, 'operation broke off')
      }
      await pause(backoffMs(attempt, deps.config.retry), signal)
    }
  }
  const takeTurn = async (): Promise<void> => {
    const id = nextTurn(waitingStates())
    if (id === undefined || stop.aborted) return
    const cut = openToMany()
    const forward = () => cut.abort(stop.reason)
    stop.addEventListener('abort', forward, { once: true })
    waiting.delete(id)
    running = { id, cut }
    try {
      await runToEnd(id, cut.signal)
    } finally {
      running = undefined
      stop.removeEventListener('abort', forward)
    }
    if (stop.aborted || !cut.signal.aborted || states().get(id)?.outcome) return
    deps.log.info({ operationId: id }, 'operation gave way to what root ordered here')
    enqueue(id)
  }
  /** One turn for each that waits, whichever it is by then. */
  const enqueue = (id: string) => {
    waiting.add(id)
    queue = queue.then(takeTurn)
    letRootFirst()
  }
  for (const [id, state] of states()) if (!state.outcome) enqueue(id)

  /** Why an order cannot be taken on now; undefined: it can. A coordinator's orders take no place of root's. */
  const crowded = (by: 'root' | 'coordinator'): string | undefined => {
    const others = [...states().values()].filter(
      ({ order }) => isLocal(order.operationId) === (by === 'root'),
    )
    const unreported = others.filter(isUnreported).length
    if (unreported >= MAX_UNREPORTED) return `${unreported} operations are not acknowledged yet`
    const open = others.filter(state => !state.outcome).length
    return open >= MAX_OPEN ? `${open} operations wait already` : undefined
  }
  /** Takes the space that the marks of a change need. Without it the order is accepted and told to be refused: arming asks for it again. */
  const reserveMarks = async (order: Order) => {
    if (!ARMED.includes(actionOf(order))) return
    const { operationId } = order
    try {
      await prepareArmFolder(armFolder(deps.stateDir, operationId, 1), deps.stateDir)
    } catch (error) {
      deps.log.warn({ operationId, reason: reasonOf(error) }, 'no space for the marks of an operation')
    }
  }
  const take = async (order: Order) => {
    await journal.reserve()
    await reserveMarks(order)
    await journal.append({ operation: order.operationId, kind: 'accepted', order })
    changed()
    enqueue(order.operationId)
  }

  // What is rebuilt by hand is told, too: what was planned for the system before says nothing of this one.
  let runs = await currentSystem(deps.system, deps.config.systemRoot)
  const watchMachine = async () => {
    do {
      const now = await deps.failedUnits?.(stop)
      const current = await currentSystem(deps.system, deps.config.systemRoot)
      const isSame = current === runs && JSON.stringify(now) === JSON.stringify(failed)
      if (stop.aborted || isSame) continue
      if (current !== runs) machineStatus = await readMachineStatus(deps)
      runs = current
      failed = now
      status = describe()
      changed()
    } while (await pause(jittered(deps.lookEveryMs ?? LOOK_EVERY_MS), stop))
  }
  const watching = deps.failedUnits ? watchMachine() : Promise.resolve()

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
      const needsManifest = ['apply', 'plan', 'upgrade'].includes(actionOf(order))
      if (needsManifest && !isDigest(order.manifestDigest)) {
        return deps.log.warn({ operationId }, 'order without the digest of a manifest passed over')
      }
      const known = states().get(operationId)
      if (known) {
        // Reported again, done once. What is done is what was accepted; another order under its id is none.
        const { revision, manifestDigest } = known.order
        const same =
          revision === order.revision &&
          manifestDigest === order.manifestDigest &&
          actionOf(known.order) === actionOf(order)
        if (same) askedAgain.add(operationId)
        else deps.log.warn({ operationId }, 'order passed over: this id was used for another one')
        return changed()
      }
      // It would count as root's.
      if (isLocal(operationId)) {
        return deps.log.warn(
          { operationId },
          'order passed over: its id is one of those that root gives here',
        )
      }
      const problem = crowded('coordinator')
      if (problem !== undefined) return deps.log.warn({ operationId, problem }, 'order passed over')
      try {
        await take(order)
      } catch (error) {
        // What cannot be written down is not begun. It comes again at the next connection, which must not be this very one's end:
        // a node that nobody reaches cannot be helped.
        deps.log.error({ operationId, err: reasonOf(error) }, 'order passed over: it cannot be recorded')
      }
    },
    async acceptLocal({ action }) {
      if (action.case === undefined || action.case === 'apply') {
        throw precondition('order: a revision comes from the coordinator alone')
      }
      const problem = crowded('root')
      if (problem !== undefined) throw precondition(`order: ${problem}`)
      const operationId = `${LOCAL}${randomId().slice(0, 16)}`
      const expires = timestampFromDate(
        new Date(agentTime(deps, states().values()).getTime() + LOCAL_ORDER_MS),
      )
      try {
        await take(create(OrderSchema, { operationId, expires, action }))
      } catch (error) {
        throw precondition(`order: it cannot be recorded: ${reasonOf(error)}`)
      }
      return operationId
    },
    confirmByHand(operation) {
      const waiting = hand.waiting(operation)
      if (waiting === undefined) {
        throw precondition(
          operation === ''
            ? 'no operation waits to be confirmed'
            : `operation ${operation} does not wait to be confirmed`,
        )
      }
      hand.confirm(waiting)
      return waiting
    },
    async coordinatorRestarts(expectedMs) {
      for (const [id, state] of states()) {
        const { round } = state
        if (state.outcome || !round || state.extendedMs !== undefined) continue
        const folder = armFolder(deps.stateDir, id, round.number)
        const byMs = Math.min(Math.max(0, expectedMs), deps.config.restartBoundMs)
        let moved = false
        await changeDeadline(folder, async deadline => {
          if (!deadline || (await readVerdict(folder)).kind !== 'none') return undefined
          // What is over is over, even when nobody has said so yet; and a promotion does not wait for the coordinator.
          if (!leftUntil(deadline, await readBootTime(deps.system)) || deadline.of !== 'proof')
            return undefined
          // Before the deadline moves: it must not move twice.
          await journal.append({ operation: id, kind: 'extended', byMs })
          moved = true
          return { ...deadline, uptimeMs: deadline.uptimeMs + byMs, extendedMs: byMs }
        })
        if (!moved) continue
        output.add(`the coordinator restarts: its answer is waited for ${Math.round(byMs / 1_000)} s longer`)
      }
    },
    reports: () =>
      [...states().values()]
        .filter(state => isUnreported(state) || askedAgain.has(state.order.operationId))
        .map(reportOf),
    async acknowledge(ack) {
      const state = states().get(ack.operationId)
      if (!state) return
      // Nobody can have committed more than there is.
      const newest = BigInt(state.newest)
      const upTo = Number(ack.sequence < newest ? ack.sequence : newest)
      const outcome = ack.outcome && state.outcome !== undefined
      if (upTo === state.newest && outcome === (state.outcome !== undefined))
        askedAgain.delete(ack.operationId)
      if (upTo <= state.acknowledged && (!outcome || state.outcomeAcknowledged)) return
      await journal.append({ operation: ack.operationId, kind: 'acknowledged', upTo, outcome })
    },
    tellAll() {
      for (const id of states().keys()) if (!isLocal(id)) askedAgain.add(id)
      changed()
    },
    tellAgain(operationIds) {
      for (const id of operationIds) if (states().has(id)) askedAgain.add(id)
      changed()
    },
    logs: () => output.waiting(),
    logSent: lines => output.sent(lines),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    journalSequence: () => BigInt(journal.sequence),
    told() {
      const all = [...states().values()]
      return {
        acknowledged: BigInt(Math.max(0, ...all.map(({ acknowledged }) => acknowledged))),
        untold: all
          .filter(state => !isLocal(state.order.operationId) && (!state.outcome || isUnreported(state)))
          .slice(0, MAX_UNREPORTED)
          .map(({ order: { operationId }, acceptedAt }) => ({ operationId, acceptedAt })),
      }
    },
    memory() {
      const known = memory.kind === 'known' ? memory : undefined
      return {
        highest: BigInt(known?.highest ?? 0),
        highestDigest: known?.highestDigest ?? '',
        host: known?.host ?? '',
      }
    },
    askGates: async signal =>
      await askGates(
        deps,
        states(),
        {
          hadRevision: memory.kind !== 'known' || memory.highest > 0,
          isWhole: memory.kind === 'known' && journal.records[0]?.sequence === 1,
        },
        signal,
      ),
    nodeStatus: () => status,
    setAssignment(next) {
      assignment = next
    },
    history: () => [...states().values()].map(reportOf).toReversed(),
    async [Symbol.asyncDispose]() {
      await queue
      await watching
      await journal[Symbol.asyncDispose]()
    },
  }
}
