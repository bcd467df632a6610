import { join } from 'node:path'
import { makePrivateDirectory } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import type {
  ClusterOrder,
  ClusterReport,
  ClusterReportAck,
  ClusterState,
  ClusterStateRequest,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { JobsProbe } from '../../shared/gen/muster/v1/probe_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { millisOf } from '../../shared/time.ts'
import type { DriverReading } from '../drivers/create-driver.ts'
import type { DiskData } from '../drivers/node/disk-data.ts'
import type { Log } from '../log.ts'
import { type ActDeps, type ActEnd, failedAct } from './acts/act.ts'
import { deadlineOf, nodeOf, runAct } from './acts/run-act.ts'
import { deletedAt, deleteToken } from './acts/tokens.ts'
import {
  acknowledge,
  type ClusterOperation,
  endOperation,
  isOpen,
  newOperation,
  type OwedReport,
  owe,
} from './cluster-operation.ts'
import { ClusterStanding } from './cluster-standing.ts'
import { decideOrder, decideResume } from './decide-order.ts'
import { JobGateRuns } from './job-gate-runs.ts'
import { laneOf, type Placed, whatMayStart } from './lanes.ts'
import { type ManifestDeps, ManifestKeeper } from './manifest-keeper.ts'
import { OperationStore } from './operation-store.ts'
import { ReplayStore } from './replay-store.ts'
import type { JobGateAnswer } from './run-job-gates.ts'
import { TokenKeeper } from './token-keeper.ts'

export interface ClustersDeps
  extends Omit<ActDeps, 'manifests' | 'replay'>,
    Pick<ManifestDeps, 'accepted' | 'getRevision'> {
  /** The agent's state folder. */
  readonly stateDir: string
  /** For what the machine's configuration says now that it is. */
  readonly openDriver: () => Promise<DriverReading>
  /** What lies on the disk, for a machine without a driver. */
  readonly readDisk: () => Promise<DiskData>
  readonly allow: readonly string[]
  /** Why the node obeys nothing; undefined: it does. */
  readonly held: () => string | undefined
  /** Why nothing may change this machine's cluster part now; undefined: it may. */
  readonly busy: () => string | undefined
  /** Between tries of a deletion. */
  readonly retry: { readonly firstMs: number; readonly mostMs: number }
  /** Between two looks of an act that waits. Absent: 2 s. */
  readonly lookEveryMs?: number
  readonly log: Log
}

/** What is told in a session; another turn of the same is told anew. */
export interface ToldReport extends Pick<OwedReport, 'report' | 'digest'> {
  readonly turn: number
}

/** This node's part in clusters: orders about them, durable, each counted once, and what becomes of them. */
export interface Clusters extends AsyncDisposable {
  /** Takes an order; durable when it returns. */
  accept(order: ClusterOrder): Promise<void>
  acknowledge(ack: ClusterReportAck): Promise<void>
  /** Takes a revision that was announced. Answers why it does not count; undefined: it does. */
  announced(envelope: Envelope | undefined): Promise<string | undefined>
  /** What this node sees of its cluster, read after the question. */
  answer(request: Pick<ClusterStateRequest, 'requestId'>, signal: AbortSignal): Promise<ClusterState>
  /** Everything that the coordinator has not acknowledged. */
  reports(): readonly ToldReport[]
  onChange(listener: () => void): () => void
  /** Newest first, for the local status. */
  operations(): readonly ClusterOperation[]
  /** Runs the Jobs that are gates of this server's cluster; throws where this machine may not, or is running them already. */
  runJobs(asked: JobsProbe, signal: AbortSignal): Promise<readonly JobGateAnswer[]>
  readonly standing: ClusterStanding
}

/** So often a deletion is tried before it waits for the next order. */
const DELETION_TRIES = 12
/** What goes on after a start of the agent has at least so long. */
const LEAST_RESUMED_MS = 5 * 60_000
/** In the place of an operation's id, which has no space: what no order asks for. */
const TOKEN_LOOK = 'token look'
/** So often the agent may break in the middle of an operation, by a full disk or a bug of ours, before that is its end. */
const MAX_BREAKS = 5

/**
 * INVARIANTS: an order is on disk before anything is done for it, and that it was begun is on disk before anything is changed;
 * each act runs at most once at a time, in its lane; at a start everything that is not over is taken up again, from wherever
 * disk and machine say it is; when it is disposed of, everything it started has come to rest.
 */
export async function startClusters(deps: ClustersDeps, stop: AbortSignal): Promise<Clusters> {
  const folder = join(deps.stateDir, 'clusters')
  await makePrivateDirectory(folder)
  const store = await OperationStore.open(join(folder, 'operations'))
  const replay = await ReplayStore.open(folder, store.all().length === 0)
  const manifests = await ManifestKeeper.open({ ...deps, folder })
  const fetchTree = oneByOne(deps.fetchTree)
  const engine = new Engine({ ...deps, fetchTree, manifests, replay }, store, stop)
  await engine.resume()
  return engine
}

/** Trees are fetched one after the other: they share a folder, and what another download left in it is taken away. */
function oneByOne(fetchTree: ActDeps['fetchTree']): ActDeps['fetchTree'] {
  let last: Promise<unknown> = Promise.resolve()
  return (manifest, signal) => {
    const work = last.then(async () => await fetchTree(manifest, signal))
    last = work.catch(() => {}) // told to who asked
    return work
  }
}

class Engine implements Clusters {
  readonly #deps: ClustersDeps & ActDeps
  readonly #store: OperationStore
  readonly #stop: AbortSignal
  readonly #running = new Map<string, { readonly placed: Placed; readonly done: Promise<void> }>()
  readonly #listeners = new Set<() => void>()
  /** Counted up when a report is to be told though nothing of it changed. */
  readonly #turns = new Map<string, number>()
  readonly #deletions = new Map<string, { tries: number; dueMs: number }>()
  readonly #breaks = new Map<string, number>()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #jobs: JobGateRuns
  readonly #tokens: TokenKeeper
  readonly standing: ClusterStanding
  /** Orders are taken one after the other. */
  #tail: Promise<unknown> = Promise.resolve()

  constructor(deps: ClustersDeps & ActDeps, store: OperationStore, stop: AbortSignal) {
    this.#deps = deps
    this.#store = store
    this.#stop = stop
    this.standing = new ClusterStanding(deps, stop)
    this.#jobs = new JobGateRuns(deps, stop)
    this.#tokens = new TokenKeeper(deps, () => this.#pump())
  }

  async resume(): Promise<void> {
    const nowMs = this.#nowMs()
    await this.#store.prune(nowMs)
    for (const operation of this.#store.all()) {
      const decision = decideResume(operation, millisOf(operation.order?.expires), nowMs)
      if (decision.kind === 'end')
        await this.#endNow(operation.id, failedAct(decision.class, decision.reason))
    }
    await this.standing.learn()
    this.#pump()
  }

  accept(order: ClusterOrder): Promise<void> {
    return this.#afterOthers(async () => await this.#accept(order))
  }

  async #accept(order: ClusterOrder): Promise<void> {
    const { log, allow, held, busy } = this.#deps
    const { operationId: id, cluster, action } = order
    const known = this.#store.get(id)
    const nowMs = this.#nowMs()
    const decision = decideOrder(
      {
        operation: id,
        cluster,
        action: action.case,
        expiresMs: millisOf(order.expires),
        hasSecret: action.case === 'join' && action.value.secret !== undefined,
      },
      known,
      {
        nowMs,
        allow,
        held: held(),
        busy: busy(),
        open: this.#store.all().filter(isOpen).length,
        running: this.#running.has(id),
      },
    )
    if (decision.kind === 'pass-over') {
      log.warn(
        { operationId: id.slice(0, 128), reason: decision.reason },
        'order about a cluster passed over',
      )
      return
    }
    if (decision.kind === 'repeat') return await this.#repeat(id)
    if (action.case === undefined) return
    log.info(
      { operationId: id, cluster, action: action.case, decision: decision.kind },
      'order about a cluster',
    )
    const operation = known ?? newOperation(order, action.case, nowMs)
    switch (decision.kind) {
      case 'take':
        await this.#store.put(operation)
        break
      case 'refuse':
        if (!known) await this.#store.put(operation)
        await this.#endNow(id, failedAct(decision.class, decision.reason))
        break
      case 'bar':
        await this.#bar(operation, action)
        break
    }
    this.#pump()
  }

  async #bar(operation: ClusterOperation, action: ClusterOrder['action']): Promise<void> {
    const named = action.case === 'deleteSecret' ? action.value.tokenId : ''
    const begun = operation.stage === 'begun' || this.#running.has(operation.id)
    const barred = {
      ...(begun ? operation : endOperation(operation, this.#nowMs())),
      token: 'to-delete' as const,
      tokenId: operation.tokenId ?? (named === '' ? undefined : named.slice(0, 256)),
      // What was minted is told to nobody any more.
      reports: operation.reports.filter(owed => owed.report.result.case !== 'minted'),
    }
    await this.#store.put(barred)
    this.#deletions.set(operation.id, { tries: 0, dueMs: 0 })
    this.#changed()
  }

  /** Told again: who asks again has not had the answer, or has lost it. */
  async #repeat(id: string): Promise<void> {
    const operation = this.#store.get(id)
    if (!operation) return
    const reports = operation.reports.map(owed =>
      owed.acknowledged && owed.report.result.case !== 'minted' ? { ...owed, acknowledged: false } : owed,
    )
    if (reports.some((owed, index) => owed !== operation.reports[index]))
      await this.#store.put({ ...operation, reports })
    if (operation.token === 'to-delete' && !this.#deletions.has(id)) {
      this.#deletions.set(id, { tries: 0, dueMs: 0 })
    }
    this.#turns.set(id, (this.#turns.get(id) ?? 0) + 1)
    this.#changed()
    this.#pump()
  }

  acknowledge({ operationId, reportDigest }: ClusterReportAck): Promise<void> {
    return this.#afterOthers(async () => {
      const operation = this.#store.get(operationId)
      if (!operation?.reports.some(owed => owed.digest === reportDigest && !owed.acknowledged)) return
      await this.#store.put(acknowledge(operation, reportDigest))
      await this.#store.prune(this.#nowMs())
    })
  }

  async announced(envelope: Envelope | undefined): Promise<string | undefined> {
    return await this.#deps.manifests.offer(envelope)
  }

  async answer(request: Pick<ClusterStateRequest, 'requestId'>, signal: AbortSignal): Promise<ClusterState> {
    const state = await this.standing.read(request.requestId, signal)
    if (state.view) this.#tokens.want()
    return state
  }

  runJobs(asked: JobsProbe, signal: AbortSignal): Promise<readonly JobGateAnswer[]> {
    return this.#jobs.run(asked, signal)
  }

  reports(): readonly ToldReport[] {
    return this.#store
      .all()
      .flatMap(({ id, reports }) =>
        reports
          .filter(owed => !owed.acknowledged)
          .map(({ report, digest }) => ({ report, digest, turn: this.#turns.get(id) ?? 0 })),
      )
  }

  operations(): readonly ClusterOperation[] {
    return [...this.#store.all()].sort((a, b) => b.acceptedMs - a.acceptedMs)
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#tokens.stop()
    await this.#tail
    while (this.#running.size > 0) await Promise.all([...this.#running.values()].map(({ done }) => done))
    await this.standing.idle()
    await this.#jobs.idle()
  }

  #nowMs(): number {
    return this.#deps.clock.now().getTime()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }

  #afterOthers<T>(task: () => Promise<T>): Promise<T> {
    const work = this.#tail.then(task)
    this.#tail = work.catch(() => {}) // told to who asked
    return work
  }

  /** Starts whatever may run now. */
  #pump(): void {
    if (this.#stop.aborted) return
    const waiting = this.#store
      .all()
      .filter(operation => !this.#running.has(operation.id) && this.#isDue(operation))
      .sort((a, b) => a.acceptedMs - b.acceptedMs)
    const placed = waiting.map((operation): Placed => {
      const { order, id } = operation
      // What is about this machine itself is told apart when it is opened; to be alone is right for both.
      const about = order ? nodeOf(order.action, '') : ''
      const action = operation.stage === 'ended' ? 'deleteSecret' : operation.action
      return { operation: id, lane: laneOf(action, about, about === this.standing.nodeName ? about : '') }
    })
    if (this.#tokens.isDue && !this.#running.has(TOKEN_LOOK))
      placed.push({ operation: TOKEN_LOOK, lane: 'token' })
    const running = [...this.#running.values()].map(({ placed }) => placed)
    for (const each of whatMayStart(running, placed)) {
      const work = each.operation === TOKEN_LOOK ? this.#tokens.look(this.#stop) : this.#run(each.operation)
      const done = work.finally(() => {
        this.#running.delete(each.operation)
        this.#pump()
      })
      this.#running.set(each.operation, { placed: each, done })
    }
  }

  #isDue({ id, stage, token }: ClusterOperation): boolean {
    if (stage !== 'ended') return (this.#breaks.get(id) ?? 0) < MAX_BREAKS
    const deletion = this.#deletions.get(id)
    // At a start nobody has put it on the list yet.
    if (token !== 'to-delete') return false
    if (!deletion) this.#deletions.set(id, { tries: 0, dueMs: 0 })
    return !deletion || (deletion.tries < DELETION_TRIES && deletion.dueMs <= performance.now())
  }

  async #run(id: string): Promise<void> {
    try {
      const operation = this.#store.get(id)
      if (!operation || this.#stop.aborted) return
      if (operation.stage === 'ended') return await this.#delete(operation)
      const end = await this.#act(operation)
      if (this.#stop.aborted && end.kind === 'failed') return
      await this.#end(id, end)
    } catch (error) {
      // A disk that is full, or a bug of ours: nobody else would take it up again.
      const breaks = (this.#breaks.get(id) ?? 0) + 1
      this.#breaks.set(id, breaks)
      this.#deps.log.error({ operationId: id, err: reasonOf(error) }, 'operation about a cluster broke off')
      await pause(backoffMs(breaks, this.#deps.retry), this.#stop)
      if (breaks >= MAX_BREAKS) await this.#giveUp(id)
    }
  }

  async #giveUp(id: string): Promise<void> {
    try {
      await this.#end(id, failedAct('internal', 'the agent failed in the middle of it; its log says more'))
    } catch (error) {
      this.#deps.log.error(
        { operationId: id, err: reasonOf(error) },
        'the end of an operation cannot be written down',
      )
    }
  }

  async #act(operation: ClusterOperation): Promise<ActEnd> {
    const { id, order, cluster } = operation
    if (!order) return failedAct('unreadable', 'what was ordered is not known any more')
    const reading = await this.#deps.openDriver()
    if (reading.kind === 'unreadable') return failedAct('unreadable', reading.reason)
    if (reading.kind === 'none') {
      return failedAct(
        'no-cluster-part',
        'the system of this machine has no Kubernetes part: apply the revision first',
      )
    }
    const { driver } = reading
    if (driver.facts.cluster !== cluster)
      return failedAct(
        'cluster',
        `this machine belongs to cluster ${driver.facts.cluster}, not to ${cluster}`,
      )
    const limitMs = deadlineOf(order.action)
    const spentMs = operation.begunMs === undefined ? 0 : Math.max(0, this.#nowMs() - operation.begunMs)
    const deadlineMs =
      operation.begunMs === undefined
        ? limitMs
        : Math.max(limitMs - spentMs, Math.min(limitMs, LEAST_RESUMED_MS))
    const current = () => this.#store.get(id) ?? operation
    const update = async (change: (before: ClusterOperation) => ClusterOperation) => {
      // With what comes in meanwhile, such as that its token is to be gone.
      await this.#afterOthers(async () => await this.#store.put(change(current())))
      this.#changed()
    }
    return await runAct({
      deps: this.#deps,
      order,
      driver,
      options: { deadlineMs, signal: this.#stop, everyMs: this.#deps.lookEveryMs },
      operation: current,
      update,
      begin: async () => {
        if (current().stage !== 'accepted') return
        await update(before => ({ ...before, stage: 'begun', begunMs: this.#nowMs() }))
      },
    })
  }

  async #end(id: string, end: ActEnd): Promise<void> {
    await this.#afterOthers(async () => await this.#endNow(id, end))
  }

  /** Writes down how an operation ended, once, and has it told. */
  async #endNow(id: string, end: ActEnd): Promise<void> {
    const operation = this.#store.get(id)
    if (!operation || operation.stage === 'ended') return
    const { operatorOrder } = operation
    const nowMs = this.#nowMs()
    if (end.kind !== 'failed' && operatorOrder)
      await this.#deps.replay.see({ ...operatorOrder, operation: id, done: true }, nowMs)
    const ended = endOperation(this.#store.get(id) ?? operation, nowMs)
    const barred = ended.token !== 'kept' && ended.action === 'mint'
    // Of a mint that was taken back only the deletion is told.
    await this.#store.put(end.kind === 'told' || barred ? ended : owe(ended, resultOf(end)))
    const outcome = end.kind === 'failed' ? { class: end.class, reason: end.reason } : {}
    this.#deps.log.info(
      { operationId: id, action: operation.action, done: end.kind !== 'failed', ...outcome },
      'operation about a cluster ended',
    )
    this.#changed()
  }

  async #delete(operation: ClusterOperation): Promise<void> {
    const { id, tokenId } = operation
    const deletion = this.#deletions.get(id) ?? { tries: 0, dueMs: 0 }
    const gone = await this.#tokenGone(id, tokenId)
    if (this.#stop.aborted) return
    if (gone === undefined) {
      const nowMs = this.#nowMs()
      await this.#afterOthers(async () => {
        const now = this.#store.get(id) ?? operation
        await this.#store.put(owe({ ...now, token: 'deleted' }, deletedAt(nowMs)))
      })
      this.#deletions.delete(id)
      this.#changed()
      return
    }
    const tries = deletion.tries + 1
    const waitMs = backoffMs(tries, this.#deps.retry)
    this.#deps.log.warn({ operationId: id, reason: gone, tries }, 'token could not be deleted yet')
    this.#deletions.set(id, { tries, dueMs: performance.now() + waitMs })
    // Given up until it is ordered again.
    if (tries >= DELETION_TRIES) this.#deletions.set(id, { tries, dueMs: Number.POSITIVE_INFINITY })
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#pump()
    }, waitMs + 1)
    this.#timers.add(timer)
  }

  /** Why it cannot be shown to be gone; undefined: it is. */
  async #tokenGone(id: string, tokenId: string | undefined): Promise<string | undefined> {
    const reading = await this.#deps.openDriver()
    if (reading.kind !== 'driver') return reading.kind === 'none' ? 'no cluster part' : reading.reason
    const { driver } = reading
    const deleted = await deleteToken(driver, id, tokenId === undefined ? [] : [tokenId], this.#stop)
    return deleted.kind === 'failed' ? `${deleted.class}: ${deleted.reason}` : undefined
  }
}

function resultOf(end: Exclude<ActEnd, { kind: 'told' }>): ClusterReport['result'] {
  const bare = {
    $typeName: 'muster.v1.ClusterStepEnded',
    ...(end.cordonedBy !== undefined && { cordonedBy: end.cordonedBy }),
  } as const
  if (end.kind === 'failed') {
    const reason = end.reason.slice(0, 2000)
    const value = {
      ...bare,
      done: false,
      class: end.class,
      reason,
      authority: '',
      value: { case: undefined },
    } as const
    return { case: 'ended', value }
  }
  const { authority = '', value = { case: undefined } } = end
  return { case: 'ended', value: { ...bare, done: true, class: '', reason: '', authority, value } }
}
