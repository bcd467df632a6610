import { toBinary } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import {
  type ClusterReport,
  ClusterReportSchema,
  type ClusterState,
  type SealedSecret,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { keyedRunner } from '../../shared/keyed-runner.ts'
import { pause } from '../../shared/lifecycle.ts'
import type { Logger } from '../../shared/log.ts'
import { isHostName } from '../../shared/revision/host-name.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import type { Blobs } from '../revisions/blobs.ts'
import type { FleetTargetsCache } from '../revisions/fleet-targets.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Store } from '../store/store.ts'
import { actProblems } from './acts/act-problems.ts'
import { withPort } from './acts/grant-act.ts'
import { Kubeconfigs } from './acts/kubeconfigs.ts'
import { type ActsDeps, actsUnderWay, rebuildingIn, runActs, takeActReport } from './acts/run-acts.ts'
import { settleCordons } from './acts/settle-cordons.ts'
import { ManifestBook, type ManifestsState } from './acts/wanted-manifests.ts'
import { readReport, readState } from './cluster-messages.ts'
import { type ClusterSnapshot, liveServers, type Observation } from './cluster-snapshot.ts'
import { isBusy, isInvolved } from './is-busy.ts'
import { OrderSender } from './order-sender.ts'
import type { Waiting } from './reasons.ts'
import { type ClusterDeps, lookAtCluster, runCluster, takeObservation, takeReport } from './run-cluster.ts'
import { SecretRelay } from './secret-relay.ts'
import { standingsOf } from './standings.ts'
import { StateQuestions } from './state-questions.ts'
import { type StuckSettings, WaitingBook } from './waiting-book.ts'
import { clusterOfMachine, type WantedCluster, wantedCluster } from './wanted-cluster.ts'

export interface ConductorDeps {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly directory: MachineDirectory
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
  readonly sessions: Pick<Sessions, 'live' | 'send' | 'online'>
  /** How often a machine of a cluster is asked for its state when nothing is under way. */
  readonly askMs: number
  readonly stuck: StuckSettings
  readonly blobs: Pick<Blobs, 'read'>
  /** Why nothing is granted, since the store was set back; undefined: nothing is in the way. */
  readonly halted: () => string | undefined
  /** Called when an act changed, and when a machine of a cluster that is followed said what it sees. */
  readonly onNews: () => void
  readonly signal: AbortSignal
}

const LOOK_MS = 500
/** Clusters that are followed are looked at in between: half of this a host waits for nothing but the next look. */
const FOLLOWED_LOOK_MS = 250
/** Servers of a cluster in which something is under way are asked so often: what waits for evidence waits for this. */
const BUSY_ASK_MS = 3_000
/** Whose next word lets a rollout go on is asked so often: all this time a host waits that could be done. */
const FOLLOWED_ASK_MS = 500
/** A cluster is looked at so often though nothing was heard: times pass, too. */
const TURN_MS = 10_000
const BUSY_TURN_MS = 2_000
/** More joins are not under way at once in a fleet whose clusters bear them. */
const MAX_OWED = 1024

/**
 * The clusters' part of the coordinator: hears machines, asks them, lets each cluster's planner run, and sends what follows.
 * INVARIANTS: of each cluster at most one turn runs at a time; what is sent follows from what is written; a state counts
 * only as an answer to a question of this process, as of when that was sent.
 */
export class Conductor {
  readonly #deps: ConductorDeps
  readonly #cluster: ClusterDeps<SealedSecret>
  readonly #sender: OrderSender
  readonly #questions = new StateQuestions()
  readonly #runner: ReturnType<typeof keyedRunner>
  readonly #waiting: WaitingBook
  readonly #acts: ActsDeps
  readonly #manifests: ManifestBook
  /** Told the id of each act that changed. */
  readonly feed: ChangeFeed
  readonly kubeconfigs = new Kubeconfigs()
  /** Of each cluster what the newest turn saw. */
  readonly #seen = new Map<string, ClusterSnapshot>()
  readonly #busy = new Set<string>()
  /** By cluster the machines whose next word somebody waits for. */
  #followed: ReadonlyMap<string, ReadonlySet<string>> = new Map()
  /** By cluster what acts left behind, as problems. */
  readonly #left = new Map<string, readonly string[]>()
  /** Since when the first server of a cluster is not seen live. */
  readonly #firstAbsentMs = new Map<string, number>()
  readonly #ranMs = new Map<string, number>()
  /** When something that failed may be tried again. */
  readonly #wakeMs = new Map<string, number>()
  /** Reports of minters that are acknowledged when their joiner has the secret: digest by operation. */
  readonly #owed = new Map<string, { readonly minter: string; readonly digest: string }>()

  constructor(deps: ConductorDeps) {
    this.#deps = deps
    const { store, clock, log, signal, onNews } = deps
    this.feed = new ChangeFeed(onNews)
    const seenOf = (machine: string) => this.#cluster.seen.get(machine)
    this.#sender = new OrderSender({ ...deps, db: store.db, seenOf })
    this.#waiting = new WaitingBook(deps.stuck)
    this.#acts = { store, clock, feed: this.feed, kubeconfigs: this.kubeconfigs }
    this.#manifests = new ManifestBook({ ...deps, db: store.db })
    this.#cluster = {
      store,
      clock,
      wanted: name => this.wanted(name),
      standingsOf: machines => standingsOf(deps, machines),
      seen: new Map<string, Observation>(),
      relay: new SecretRelay(),
      send: (machine, name, orders) =>
        this.#sender.sendIntents(machine, name, withPort(this.#endpoint(name)), orders),
    }
    this.#runner = keyedRunner(
      name => this.#turn(name),
      signal,
      (name, err) => log.error({ err, cluster: name }, 'cluster not looked at; it is tried again'),
    )
  }

  wanted(name: string): WantedCluster | undefined {
    return wantedCluster(this.#deps.fleetTargets.current(), this.#deps.directory, name)
  }

  #endpoint(name: string): string | undefined {
    return this.#deps.fleetTargets.current().clusters.get(name)?.endpoint
  }

  /** All that is known of a cluster now; undefined: the newest revision has none of the name. */
  async snapshot(name: string): Promise<ClusterSnapshot | undefined> {
    const snapshot = await lookAtCluster(this.#cluster, name)
    const firstAbsentMs = this.#firstAbsentMs.get(name) ?? this.#deps.clock.now().getTime()
    return snapshot && { ...snapshot, firstAbsentMs }
  }

  /** What a machine said of its cluster last; undefined: nothing to this process. */
  observed(machine: string): Observation | undefined {
    return this.#cluster.seen.get(machine)
  }

  /** What waits, since when, in a cluster. */
  waiting(name: string) {
    return this.#waiting.of(name)
  }

  /** What is stuck and needs a person, for the fleet's problems. */
  problems(): readonly string[] {
    const waiting = this.#waiting.problems(this.#deps.clock.now().getTime())
    return [...waiting, ...[...this.#left.values()].flat()]
  }

  /** How far the manifests of the fleet directory have come in a cluster; undefined: it is not known now. */
  async manifests(name: string): Promise<ManifestsState | undefined> {
    try {
      return await this.#manifests.of(name)
    } catch (err) {
      this.#deps.log.error({ err, cluster: name }, 'manifests of the newest revision not read')
      return undefined
    }
  }

  /**
   * Takes down whose next word somebody waits for. Who comes to be among them is asked at once, and so are the servers of its cluster;
   * then as often as where something is under way.
   */
  follow(machines: ReadonlyMap<string, ReadonlySet<string>>): void {
    const before = this.#followed
    this.#followed = machines
    for (const [name, wanted] of machines) {
      const added = [...wanted].filter(machine => !before.get(name)?.has(machine))
      if (added.length === 0) continue
      for (const machine of new Set([...added, ...this.#serversOf(name)])) {
        if (this.#deps.sessions.online(machine)) this.#askNow(machine)
      }
    }
  }

  /** Lets a cluster's planner run soon. */
  trigger(name: string): void {
    if (this.#deps.fleetTargets.current().clusters.has(name)) this.#runner.trigger(name)
  }

  triggerAll(): void {
    const { clusters } = this.#deps.fleetTargets.current()
    for (const name of this.#seen.keys()) if (!clusters.has(name)) this.#drop(name)
    for (const name of clusters.keys()) this.#runner.trigger(name)
  }

  /** A machine's session was welcomed. */
  began(machine: string): void {
    this.#sender.began(machine)
    // Nobody answers what was asked in the session before.
    this.#questions.forget(machine)
    const names = this.#clustersOf(machine)
    if (names.length === 0) return
    this.#askNow(machine)
    for (const name of names) this.#runner.trigger(name)
  }

  /** A machine said how an order about a cluster went. */
  async report(machine: string, report: ClusterReport): Promise<void> {
    const { operationId, cluster, result } = report
    const step = readReport(report)
    if (!step || !isHostName(cluster) || operationId.length > 128) {
      this.#deps.log.warn(
        { machineId: machine, operationId: operationId.slice(0, 128) },
        'report not readable',
      )
      return
    }
    const secret = result.case === 'minted' ? result.value.secret : undefined
    const digest = sha256Hex(toBinary(ClusterReportSchema, report))
    const isOfAct =
      result.case === 'ended'
        ? await takeActReport(this.#acts, machine, operationId, result.value)
        : undefined
    const taken =
      isOfAct === undefined
        ? await takeReport(this.#cluster, machine, cluster, operationId, step, secret)
        : { acknowledged: isOfAct, settles: undefined }
    if (taken.acknowledged) this.#acknowledge(machine, operationId, digest)
    else if (step.kind === 'minted') this.#owe(operationId, machine, digest)
    const owed = taken.settles === undefined ? undefined : this.#owed.get(operationId)
    if (owed) {
      this.#owed.delete(operationId)
      this.#acknowledge(owed.minter, operationId, owed.digest)
    }
    // What came of it is seen by the machine and by the servers.
    this.#questions.hurry(machine)
    this.#hurryServers(cluster)
    this.trigger(cluster)
  }

  /** A machine said what it sees of its cluster. */
  async state(machine: string, state: ClusterState): Promise<void> {
    const asOfMs = this.#questions.answered(machine, state.requestId)
    if (asOfMs === undefined) return
    const seen = readState(state, asOfMs)
    if (typeof seen === 'string') {
      this.#deps.log.warn({ machineId: machine, reason: seen }, 'state of a cluster refused')
      return
    }
    const isNew = await takeObservation(this.#cluster, machine, seen)
    for (const name of this.#clustersOf(machine)) {
      if (isNew || this.#busy.has(name)) this.#runner.trigger(name)
      if (this.#followed.has(name)) this.#deps.onNews()
    }
  }

  /** Asks machines and lets planners run by the clock, until the signal fires. */
  async run(): Promise<void> {
    const { signal, clock, log } = this.#deps
    this.triggerAll()
    let looks = 0
    while (await pause(FOLLOWED_LOOK_MS, signal)) {
      looks += 1
      try {
        const isWhole = looks % (LOOK_MS / FOLLOWED_LOOK_MS) === 0
        const all = this.#deps.fleetTargets.current().clusters
        const names = isWhole ? all.keys() : [...this.#followed.keys()].filter(name => all.has(name))
        this.#look(clock.now().getTime(), names)
      } catch (err) {
        log.error({ err }, 'clusters not looked at; they are again')
      }
    }
    await this.#runner.idle()
  }

  #look(now: number, names: Iterable<string>): void {
    for (const name of names) {
      const busy = this.#busy.has(name)
      const snapshot = this.#seen.get(name)
      for (const machine of snapshot?.machines.keys() ?? []) {
        if (!this.#deps.sessions.online(machine)) continue
        const isFollowed = this.#isFollowed(name, machine)
        // Whose answer is on its way tells nothing sooner for being asked again; one that is slow is not asked faster than it answers.
        if (isFollowed && this.#questions.awaits(machine, now - BUSY_ASK_MS)) continue
        const isInvolvedNow = busy && snapshot && isInvolved(snapshot, this.waiting(name), machine)
        const everyMs = isFollowed ? FOLLOWED_ASK_MS : isInvolvedNow ? BUSY_ASK_MS : this.#deps.askMs
        if (this.#questions.due(machine, Math.min(everyMs, this.#deps.askMs), now)) this.#ask(machine)
      }
      const dueMs = (this.#ranMs.get(name) ?? 0) + (busy ? BUSY_TURN_MS : TURN_MS)
      if (Math.min(dueMs, this.#wakeMs.get(name) ?? dueMs) <= now) this.#runner.trigger(name)
    }
    this.#sender.forgetSilent()
  }

  async #turn(name: string): Promise<void> {
    const now = this.#deps.clock.now().getTime()
    this.#ranMs.set(name, now)
    this.#wakeMs.delete(name)
    const rebuilding = await rebuildingIn(this.#acts, name)
    const firstAbsentMs = this.#firstAbsentMs.get(name) ?? now
    const around = { rebuilding, firstAbsentMs, halted: this.#deps.halted() }
    const acts = await actsUnderWay(this.#acts, name)
    const turn = await runCluster(this.#cluster, name, around)
    if (!turn) return this.#drop(name)
    for (const [machine, { gone }] of turn.snapshot.machines) if (gone) this.#forget(machine)
    this.#seen.set(name, turn.snapshot)
    this.#noteFirstServer(name, turn.snapshot, firstAbsentMs, now)
    this.#waiting.set(name, turn.waiting, now)
    const manifests = await this.manifests(name)
    const settled = await settleCordons(this.#deps, turn.snapshot)
    const { orders, nextMs, moved } = await runActs(this.#acts, turn.snapshot, turn.waiting, manifests, acts)
    this.#left.set(name, await actProblems(this.#deps.store.db, name, manifests, now))
    for (const { machine, order } of orders) {
      await this.#sender.send(machine, `${order.operationId} act`, order)
    }
    this.#wakeMs.set(name, Math.min(nextMs, retryAt(turn.waiting)))
    const isTold = orders.some(({ machine }) => this.#deps.sessions.online(machine))
    if (isTold || isBusy(turn.snapshot, turn.waiting)) this.#busy.add(name)
    else this.#busy.delete(name)
    if (turn.moved) this.#hurryServers(name)
    if (turn.moved || moved || settled) this.#runner.trigger(name)
  }

  #noteFirstServer(name: string, snapshot: ClusterSnapshot, sinceMs: number, now: number): void {
    const { firstServer } = snapshot.record
    const isLive = liveServers(snapshot, now).some(({ machine }) => machine === firstServer)
    if (isLive) this.#firstAbsentMs.delete(name)
    else this.#firstAbsentMs.set(name, sinceMs)
  }

  /** The newest revision has no such cluster any more. */
  #drop(name: string): void {
    this.#seen.delete(name)
    this.#waiting.forget(name)
    this.#left.delete(name)
    this.#busy.delete(name)
    this.#firstAbsentMs.delete(name)
  }

  #forget(machine: string): void {
    this.#cluster.seen.delete(machine)
    this.#questions.forget(machine)
    this.#sender.began(machine)
  }

  /** Whatever it was asked last, and when. */
  #askNow(machine: string): void {
    this.#questions.hurry(machine)
    if (this.#questions.due(machine, this.#deps.askMs, this.#deps.clock.now().getTime())) this.#ask(machine)
  }

  #ask(machine: string): void {
    const requestId = this.#questions.ask(machine, this.#deps.clock.now().getTime())
    this.#deps.sessions.send(machine, { message: { case: 'clusterStateRequest', value: { requestId } } })
  }

  #acknowledge(machine: string, operationId: string, reportDigest: string): void {
    const value = { operationId, reportDigest }
    this.#deps.sessions.send(machine, { message: { case: 'clusterReportAck', value } })
  }

  #owe(operation: string, minter: string, digest: string): void {
    this.#owed.set(operation, { minter, digest })
    // What is lost here is only said once more by the minter.
    for (const oldest of this.#owed.keys()) {
      if (this.#owed.size <= MAX_OWED) break
      this.#owed.delete(oldest)
    }
  }

  #hurryServers(name: string): void {
    for (const machine of this.#serversOf(name)) this.#questions.hurry(machine)
  }

  #serversOf(name: string): readonly string[] {
    const hosts = this.#seen.get(name)?.hosts ?? []
    return hosts.flatMap(({ machine, role }) => (machine === undefined || role === 'worker' ? [] : [machine]))
  }

  #isFollowed(name: string, machine: string): boolean {
    const followed = this.#followed.get(name)
    return followed !== undefined && (followed.has(machine) || this.#serversOf(name).includes(machine))
  }

  /** The clusters that a machine has to do with: that of its host, and those whose record names it. */
  #clustersOf(machine: string): readonly string[] {
    const { directory, fleetTargets } = this.#deps
    const own = clusterOfMachine(fleetTargets.current(), directory, machine)
    const names = new Set(own === undefined ? [] : [own])
    for (const [name, { machines }] of this.#seen) if (machines.has(machine)) names.add(name)
    return [...names]
  }
}

/** When the first of what is backing off may be tried again; infinite: nothing is. */
function retryAt(waiting: readonly Waiting[]): number {
  const times = waiting.map(({ reason }) =>
    reason.gate === 'backing-off' ? reason.untilMs : Number.POSITIVE_INFINITY,
  )
  return Math.min(...times)
}
