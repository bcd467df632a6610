import { status } from '@grpc/grpc-js'
import type { Clock } from '../../shared/clock.ts'
import { reasonOf } from '../../shared/errors.ts'
import type {
  Assignment,
  RevisionNotice,
  SessionResponse,
  Welcome,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { JobsProbe } from '../../shared/gen/muster/v1/probe_pb.ts'
import { openToMany, pause } from '../../shared/lifecycle.ts'
import { jittered } from '../../shared/retry.ts'
import { verifyManifest } from '../../shared/revision/verify-revision.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { msFromDuration } from '../../shared/time.ts'
import { commonProtocol, PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import type { Clusters } from '../clusters/clusters.ts'
import type { MachineIdentity } from '../identity/machine-identity.ts'
import type { StatusBoard } from '../local/status-board.ts'
import type { Log } from '../log.ts'
import type { Operations } from '../operation/operations.ts'
import type { AgentStateFile } from '../state/agent-state.ts'
import type { System } from '../system/system.ts'
import { answerProbe } from './answer-probe.ts'
import type { ClockSkew } from './clock-skew.ts'
import { clusterMessages } from './cluster-messages.ts'
import { eventMessages, recordEvent } from './event-messages.ts'
import type { FactsKeeper } from './facts-keeper.ts'
import type { FleetClient, FleetLink } from './fleet-link.ts'
import { makeHeartbeat } from './heartbeat.ts'
import { keepAuditHead } from './keep-audit-head.ts'
import { type HelloDeps, makeHello } from './make-hello.ts'
import { operationMessages } from './operation-messages.ts'
import { type Outgoing, Sender } from './sender.ts'
import { SessionCut, type SessionEnd } from './session-end.ts'
import { statusMessages } from './status-messages.ts'
import { followTrust, type TrustUpdateDeps } from './trust-updates.ts'

export interface SessionDeps extends TrustUpdateDeps, HelloDeps {
  readonly link: FleetLink
  readonly state: AgentStateFile
  readonly facts: FactsKeeper
  readonly operations: Operations
  readonly clusters: Clusters
  /** The machine's key: what it says for good is signed with it. */
  readonly identity: MachineIdentity
  /** The machine that questions are answered about. */
  readonly probed: System
  readonly skew: ClockSkew
  readonly board: StatusBoard
  readonly clock: Clock
  readonly log: Log
  /** Until the welcome. */
  readonly deadlineMs: number
}

const DEFAULT_INTERVAL_MS = 10_000
const LEAST_INTERVAL_MS = 50
const MOST_INTERVAL_MS = 600_000
/** So many intervals without an acknowledgement are a dead connection. */
const SILENT_INTERVALS = 3
const MAX_PROBES = 8
const MAX_STATE_READINGS = 4
const MAX_REQUEST_CHARS = 64
const MAX_NAME_CHARS = 63
const MAX_DIGEST_CHARS = 64
/** Facts read so recently are what is asked for. */
const RECENT_FACTS_MS = 30_000

/**
 * One session, from Hello to its end. INVARIANTS: nothing but Hello and the answer to a challenge is sent before the
 * welcome; `end` says once and for all why it ended; when it returns, everything it started has come to rest; what cannot be
 * written down, such as on a full disk, ends no session: a node that nobody reaches cannot be helped.
 */
export async function runSession(
  deps: SessionDeps,
  instance: string,
  signal: AbortSignal,
): Promise<SessionEnd> {
  if (signal.aborted) return signal.reason instanceof SessionCut ? signal.reason.end : { kind: 'stopped' }
  using session = new Session(deps, instance)
  return await session.run(signal)
}

class Session implements Disposable {
  readonly #deps: SessionDeps
  readonly #instance: string
  readonly #client: FleetClient
  readonly #sender: Sender
  readonly #events: ReturnType<typeof eventMessages>
  readonly #stop = openToMany()
  readonly #running = new Set<Promise<void>>()
  #end: SessionEnd | undefined
  #welcomed = false
  #lastAckMs = 0
  #probes = 0
  #stateReadings = 0
  #factsInFlight = ''
  /** What could not be written down when it was tried last. */
  readonly #unwritten = new Set<string>()

  constructor(deps: SessionDeps, instance: string) {
    this.#deps = deps
    this.#instance = instance
    this.#client = deps.link.open()
    this.#events = eventMessages(deps.state)
    this.#sender = new Sender([
      this.#events,
      statusMessages(deps.operations),
      operationMessages(deps.operations),
      clusterMessages(deps.clusters),
    ])
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]()
  }

  async run(signal: AbortSignal): Promise<SessionEnd> {
    const deps = this.#deps
    const onAbort = () =>
      this.#finish(signal.reason instanceof SessionCut ? signal.reason.end : { kind: 'stopped' })
    signal.addEventListener('abort', onAbort, { once: true })
    const late = setTimeout(
      () => this.#finish(this.#lost(`no welcome within ${deps.deadlineMs} ms`)),
      deps.deadlineMs,
    )
    const unsubscribe = deps.operations.onChange(() => this.#sender.wake())
    const unwatch = deps.clusters.onChange(() => this.#sender.wake())
    const unfollow = deps.facts.onChange(() => this.#offerFacts())
    try {
      this.#send(makeHello(deps, this.#instance))
      for await (const response of this.#client.session(this.#sender, { signal: this.#stop.signal })) {
        await this.#handle(response)
        if (this.#welcomed) clearTimeout(late)
        if (this.#end) break
      }
      this.#finish(this.#lost('the coordinator ended the session'))
    } catch (error) {
      this.#finish(this.#fromError(error))
    } finally {
      clearTimeout(late)
      unsubscribe()
      unwatch()
      unfollow()
      signal.removeEventListener('abort', onAbort)
      this.#deps.link.setConnected(false)
      this.#sender.close()
      this.#stop.abort()
      await Promise.all(this.#running)
    }
    return this.#end ?? this.#lost('the session ended')
  }

  /** The first reason counts. */
  #finish(end: SessionEnd): void {
    this.#end ??= end
    this.#stop.abort(new Error(this.#end.kind))
  }

  #lost(reason: string): SessionEnd {
    return { kind: 'lost', reason, welcomed: this.#welcomed }
  }

  #fromError(error: unknown): SessionEnd {
    if (!(error instanceof RpcError)) this.#deps.log.error({ err: error }, 'session failed')
    const denied =
      error instanceof RpcError &&
      (error.code === status.PERMISSION_DENIED || error.code === status.UNAUTHENTICATED)
    return denied ? { kind: 'denied', reason: error.message } : this.#lost(reasonOf(error))
  }

  #send(message: Outgoing): void {
    if (!this.#sender.push(message)) this.#finish(this.#lost('the connection takes no more messages'))
  }

  /** Work beside the reading loop; its failure is logged, and the session's end waits for it. */
  #start(name: string, work: () => Promise<void>): void {
    const done: Promise<void> = work()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted)
          this.#deps.log.error({ err: error, work: name }, 'session work failed')
      })
      .finally(() => this.#running.delete(done))
    this.#running.add(done)
  }

  /** Writes down what came. What fails is told once, and comes again: with the next message of its kind, or with the next session. */
  async #keep(name: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
      this.#unwritten.delete(name)
    } catch (error) {
      if (!this.#unwritten.has(name))
        this.#deps.log.error({ err: error, work: name }, 'what came could not be kept')
      this.#unwritten.add(name)
    }
  }

  async #handle({ message }: SessionResponse): Promise<void> {
    const { operations, clusters, facts, state, clock, skew, log } = this.#deps
    if (!this.#welcomed && message.case !== 'welcome' && message.case !== 'challenge') {
      this.#finish(this.#lost('the coordinator sent something before its welcome'))
      return
    }
    switch (message.case) {
      case 'welcome':
        return this.#onWelcome(message.value)
      case 'order':
        return operations.accept(message.value)
      case 'factsRequest':
        return this.#start('facts', async () => {
          await facts.recent(RECENT_FACTS_MS)
          this.#offerFacts(true)
        })
      case 'factsAck': {
        const { digest } = message.value
        if (digest.length > MAX_DIGEST_CHARS) return
        if (this.#factsInFlight === digest) this.#factsInFlight = ''
        return this.#keep('factsAck', () => state.update(before => ({ ...before, factsDigest: digest })))
      }
      case 'operationAck':
        return this.#keep('operationAck', () => operations.acknowledge(message.value))
      case 'probe': {
        const probe = message.value
        if (this.#probes >= MAX_PROBES) {
          const value = {
            probeId: probe.probeId,
            json: '',
            error: `${MAX_PROBES} other questions are being answered`,
          }
          return this.#send({ message: { case: 'probeAnswer', value } })
        }
        this.#probes += 1
        return this.#start('probe', async () => {
          const sources = {
            facts: () => facts.refresh(),
            auditHeads: () => state.current.auditHeads,
            gates: (signal: AbortSignal) => operations.askGates(signal),
            jobs: (asked: JobsProbe, signal: AbortSignal) => clusters.runJobs(asked, signal),
            key: this.#deps.identity,
            system: this.#deps.probed,
            allow: this.#deps.allowed,
            nowMs: () => clock.now().getTime(),
          }
          const value = await answerProbe(sources, probe, this.#stop.signal)
          this.#probes -= 1
          if (!this.#stop.signal.aborted) this.#send({ message: { case: 'probeAnswer', value } })
        })
      }
      case 'trust': {
        const notice = message.value
        return this.#start('trust', async () => {
          const changed = await followTrust(this.#deps, this.#client, notice, this.#stop.signal)
          if (changed) this.#send({ message: { case: 'trust', value: this.#deps.trust.report() } })
          this.#sender.wake()
        })
      }
      case 'auditHead':
        return this.#keep('auditHead', () => keepAuditHead(state, message.value, clock.now()))
      case 'assignment':
        return this.#onAssignment(message.value)
      case 'challenge':
        return this.#answerChallenge(message.value.reason)
      case 'heartbeatAck': {
        this.#lastAckMs = performance.now()
        const sentence = skew.observe(message.value.now)
        if (sentence) await this.#reportSkew(sentence)
        return this.#keep('events', () => this.#events.settle())
      }
      case 'revision':
        return this.#keep('revision', () => this.#onRevision(message.value))
      case 'restart': {
        const { expected } = message.value
        log.info({}, 'the coordinator announced its restart')
        const expectedMs = expected ? msFromDuration(expected) : 0
        return this.#keep('restart', () => operations.coordinatorRestarts(expectedMs))
      }
      case 'clusterOrder':
        return this.#keep('clusterOrder', () => clusters.accept(message.value))
      case 'clusterReportAck':
        return this.#keep('clusterReportAck', () => clusters.acknowledge(message.value))
      case 'clusterStateRequest':
        return this.#answerClusterState(message.value.requestId)
      case undefined:
        return this.#deps.log.debug({}, 'message of a newer coordinator passed over')
    }
  }

  /** Read after the question came, which is what makes it count; whoever asks more than is answered asks again. */
  #answerClusterState(requestId: string): void {
    if (requestId.length > MAX_REQUEST_CHARS || this.#stateReadings >= MAX_STATE_READINGS) return
    this.#stateReadings += 1
    this.#start('cluster-state', async () => {
      try {
        const value = await this.#deps.clusters.answer({ requestId }, this.#stop.signal)
        if (!this.#stop.signal.aborted) this.#send({ message: { case: 'clusterState', value } })
      } finally {
        this.#stateReadings -= 1
      }
    })
  }

  /** A notice installs nothing; one with a bad signature is told at once: somebody makes up revisions. */
  async #onRevision({ number, envelope }: RevisionNotice): Promise<void> {
    const { trust, log, state, clock, clusters } = this.#deps
    if (!trust.current) return
    const verified = verifyManifest(envelope, trust.current)
    if (verified.kind === 'verified') {
      // Who belongs to a cluster is judged by it from now on.
      const why = await clusters.announced(envelope)
      return log.info(
        { revision: number, ...(why === undefined ? {} : { reason: why }) },
        'revision announced',
      )
    }
    log.warn(
      { revision: number, refusal: verified.class, reason: verified.reason },
      'announced revision refused',
    )
    await recordEvent(state, 'revision-refused', `revision ${number}: ${verified.reason}`, clock.now())
  }

  async #onWelcome(welcome: Welcome): Promise<void> {
    const { board, link, log, skew } = this.#deps
    if (commonProtocol(welcome.protocol, welcome.protocol) === undefined) {
      return this.#finish(
        this.#lost(
          `the coordinator speaks protocol ${welcome.protocol}, this agent ${PROTOCOL_MIN} to ${PROTOCOL_MAX}`,
        ),
      )
    }
    if (this.#welcomed) return
    this.#welcomed = true
    this.#lastAckMs = performance.now()
    board.set('connected', '', link.address)
    link.setConnected(true)
    log.info({ coordinator: link.address, version: welcome.version }, 'session opened')
    const sentence = skew.observe(welcome.now)
    if (sentence) await this.#reportSkew(sentence)
    if (welcome.assignment) await this.#onAssignment(welcome.assignment)
    const wanted = welcome.heartbeatInterval ? msFromDuration(welcome.heartbeatInterval) : DEFAULT_INTERVAL_MS
    const intervalMs = Math.min(Math.max(wanted, LEAST_INTERVAL_MS), MOST_INTERVAL_MS)
    this.#start('heartbeat', () => this.#beat(intervalMs))
    this.#deps.operations.tellAgain(welcome.openOperations)
    if (welcome.tellAll) this.#deps.operations.tellAll()
    this.#sender.open()
    this.#offerFacts()
  }

  async #onAssignment(assignment: Assignment): Promise<void> {
    const { operations, state, log } = this.#deps
    const { host, group } = assignment
    // It is written down as it comes, so it must be no more than a name.
    if (host.length > MAX_NAME_CHARS || group.length > MAX_NAME_CHARS) {
      return this.#finish(this.#lost('the coordinator assigned what is no name of a host'))
    }
    operations.setAssignment(assignment)
    if (host === state.current.host) return
    log.info({ host, group }, 'host assigned')
    await this.#keep('assignment', () => state.update(before => ({ ...before, host })))
  }

  /**
   * Another holder of this key is connected, or a dead connection of our own still seems to be. Whoever is alive says so
   * at once and stays; what follows is for the coordinator, and for a person, to decide.
   */
  async #answerChallenge(reason: string): Promise<void> {
    const { clock, simulated, log } = this.#deps
    log.warn({ reason }, 'challenged by the coordinator')
    this.#send(await makeHeartbeat(clock.now(), simulated))
  }

  async #beat(intervalMs: number): Promise<void> {
    const { clock, simulated } = this.#deps
    while (await pause(jittered(intervalMs), this.#stop.signal)) {
      const silentMs = performance.now() - this.#lastAckMs
      if (silentMs > SILENT_INTERVALS * intervalMs * 1.2) {
        return this.#finish(this.#lost(`the coordinator was silent for ${Math.round(silentMs)} ms`))
      }
      const beat = await makeHeartbeat(clock.now(), simulated)
      this.#events.mark()
      this.#send(beat)
    }
  }

  /** Sends the newest facts when the coordinator has others, or when it asked: it may have lost what it had. */
  #offerFacts(asked = false): void {
    const { latest } = this.#deps.facts
    if (!this.#welcomed || !latest || latest.digest === this.#factsInFlight) return
    if (!asked && latest.digest === this.#deps.state.current.factsDigest) return
    this.#factsInFlight = latest.digest
    this.#send({ message: { case: 'facts', value: { facts: latest.bytes } } })
  }

  async #reportSkew(sentence: string): Promise<void> {
    const { state, clock, log } = this.#deps
    log.warn({ skewMs: this.#deps.skew.ms }, 'clock differs from the coordinator’s')
    await this.#keep('clock', () => recordEvent(state, 'clock', sentence, clock.now()))
    this.#sender.wake()
  }
}
