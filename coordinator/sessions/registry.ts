import { setImmediate } from 'node:timers/promises'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import type { Clock } from '../../shared/clock.ts'
import {
  type Hello,
  type SessionRequest,
  SessionResponseSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import { keyedRunner } from '../../shared/keyed-runner.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import type { Logger } from '../../shared/log.ts'
import { Encoded } from '../../shared/rpc/definition.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { durationFromMs } from '../../shared/time.ts'
import { VERSION } from '../../shared/version.ts'
import { Holders } from './holders.ts'
import type { SessionAdmission, SessionHooks } from './hooks.ts'
import { LiveSession, type SessionMessage } from './live-session.ts'
import { Probes } from './probes.ts'
import { SessionStream } from './session-stream.ts'
import type { Sessions, SessionView } from './sessions.ts'

/** Beginnings of sessions that are remembered of a machine: enough to tell one that comes and goes. */
const KEPT_STARTS = 8
const HELLO_MS = 10_000
/** Operations that one machine is asked about at its welcome. */
const MOST_OPEN = 256
/** How long a stop waits for the last messages to leave; a machine that reads slowly does without. */
const FAREWELL_MS = 500
const RESTART_MS = 60_000
/** After so many bytes the event loop has a turn: what is handed over within one is written only at its end. */
const TURN_BYTES = 1_000_000

export interface RegistryDeps {
  readonly hooks: SessionHooks
  readonly clock: Clock
  readonly log: Logger
  readonly heartbeatMs: number
  /** How long the older of two holders of a key has to answer before it is taken for dead. */
  readonly challengeMs: number
  /** How long a stream may stay without its hello. */
  readonly helloMs?: number
  /** How long a planned restart is said to take; absent: a minute. */
  readonly restartExpectedMs?: number
  readonly signal: AbortSignal
}

/** What the listener knows of the other end of a session. */
export interface SessionPeer {
  readonly address: string
  /** End of the certificate it came with. */
  readonly notAfter?: Date | undefined
  /** Pin of the authority that made it. */
  readonly issuer?: string | undefined
}

type Admitted = Extract<SessionAdmission, { kind: 'ok' }>

/**
 * All live sessions.
 * INVARIANTS: at most one session of a machine is acted on; while two holders of one key are connected none is.
 * Liveness is in memory alone and written in batches. A session ends when three heartbeats are missed, when its machine
 * may no longer speak, and when it does not take what it is sent.
 */
export class SessionRegistry implements Sessions {
  readonly #deps: RegistryDeps
  readonly #holders: Holders
  readonly #probes = new Probes()
  /** Milliseconds of the newest message, of machines that spoke since liveness was last written. */
  #seen = new Map<string, number>()
  readonly #starts = new Map<string, readonly number[]>()
  readonly #orders: ReturnType<typeof keyedRunner>
  /** Large messages that are on their way to everybody. */
  #large: Promise<void> = Promise.resolve()
  /** One for all: what a function of its own held would be kept for every session. */
  readonly #onLeft = (session: LiveSession) => this.#leave(session)

  constructor(deps: RegistryDeps) {
    this.#deps = deps
    this.#holders = new Holders({ ...deps, wake: machine => this.wake(machine) })
    this.#orders = keyedRunner(
      machine => this.#deliver(machine),
      deps.signal,
      (machine, error) => deps.log.error({ machineId: machine, err: error }, 'orders not delivered'),
    )
  }

  /** When sessions of a machine began, in milliseconds, as far as this process remembers: the newest few. */
  sessionStarts(machine: string): readonly number[] {
    return this.#starts.get(machine) ?? []
  }

  online(machine: string): boolean {
    return this.#holders.live(machine) !== undefined
  }

  machines(): Iterable<string> {
    return this.#holders.machines()
  }

  live(machine: string): SessionView | undefined {
    return this.#holders.live(machine)
  }

  count(): number {
    return this.#holders.count
  }

  lastMessage(machine: string): Date | undefined {
    const session = this.#holders.live(machine)
    return session && new Date(session.lastMessageMs)
  }

  send(machine: string, message: SessionMessage): boolean {
    return this.#holders.live(machine)?.send(message) ?? false
  }

  /** The same message to every live session, serialised once. */
  broadcast(message: Encoded): void {
    for (const session of this.#holders.sessions()) session.send(message)
  }

  /**
   * The same large message, serialised once, to every session there is when its turn comes. The stream of each copies it: told all at
   * once, the first machine would wait for the copy of the last. Of two such messages no session gets the later one first.
   */
  broadcastInTurns(message: Encoded): Promise<void> {
    this.#large = this.#large.then(async () => {
      let handed = 0
      for (const session of [...this.#holders.sessions()]) {
        session.send(message)
        handed += message.bytes.length
        if (handed < TURN_BYTES) continue
        handed = 0
        await setImmediate()
      }
    })
    return this.#large
  }

  end(machine: string, reason: string): void {
    for (const session of this.#holders.all(machine)) session.end(status.PERMISSION_DENIED, reason)
  }

  /** Ends the sessions whose certificate comes from an authority that is trusted no longer. */
  endIssuedBy(isTrusted: (pin: string) => boolean): void {
    for (const machine of [...this.#holders.machines()]) {
      for (const session of [...this.#holders.all(machine)]) {
        if (session.issuer !== undefined && !isTrusted(session.issuer)) {
          session.end(status.UNAUTHENTICATED, 'the authority of this certificate was dropped; enrol anew')
        }
      }
    }
  }

  wake(machine: string): void {
    if (this.#holders.live(machine)) this.#orders.trigger(machine)
  }

  probe(
    machine: string,
    kind: string,
    deadlineMs: number,
    signal?: AbortSignal,
    parameters = '',
  ): Promise<string> {
    const session = this.#holders.live(machine)
    if (!session) return Promise.reject(new RpcError(status.UNAVAILABLE, 'not online'))
    return this.#probes.ask(session, { kind, parameters, deadlineMs }, signal)
  }

  /** Serves one stream whose peer was proved to be `machine`. Whoever iterates calls `return` at the end in any case. */
  serve(
    machine: string,
    requests: AsyncIterable<SessionRequest>,
    peer: SessionPeer,
  ): AsyncIterableIterator<SessionMessage | Encoded, undefined, undefined> {
    return new SessionStream(() => this.#begin(machine, requests[Symbol.asyncIterator](), peer), this.#onLeft)
  }

  async #begin(
    machine: string,
    reader: AsyncIterator<SessionRequest>,
    peer: SessionPeer,
  ): Promise<LiveSession> {
    const { session, admission } = await this.#admit(machine, reader, peer)
    try {
      await this.#welcome(session, admission)
    } catch (error) {
      this.#leave(session)
      throw error
    }
    this.wake(machine)
    this.#deps.hooks.clusters.began(machine)
    void this.#read(session, reader)
    return session
  }

  /**
   * Hears the greeting and lets the machine in. What is held only for the greeting must not be kept for as long as the
   * session lasts.
   */
  async #admit(
    machine: string,
    reader: AsyncIterator<SessionRequest>,
    { address, notAfter, issuer }: SessionPeer,
  ): Promise<{ readonly session: LiveSession; readonly admission: Admitted }> {
    const { hooks, clock } = this.#deps
    const helloMs = 3 * this.#deps.heartbeatMs
    const hello = await withDeadline(helloMs, undefined, () => this.#readHello(reader)).catch(error => {
      if (!(error instanceof DeadlineError)) throw error
      throw new RpcError(status.DEADLINE_EXCEEDED, `no hello within ${helloMs} ms`)
    })
    const admission = await hooks.admit(machine, hello, address)
    if (admission.kind === 'refused') throw new RpcError(status.PERMISSION_DENIED, admission.reason)
    const session = new LiveSession(machine, hello.instance, address, clock.now().getTime())
    session.notAfterMs = notAfter?.getTime() ?? Number.POSITIVE_INFINITY
    session.issuer = issuer
    session.bootId = hello.bootId
    const before = this.#starts.get(machine) ?? []
    this.#starts.set(machine, [...before.slice(1 - KEPT_STARTS), session.startedMs])
    this.#holders.enter(session)
    return { session, admission }
  }

  async #welcome(session: LiveSession, admission: Admitted): Promise<void> {
    const { hooks, clock } = this.#deps
    const { machine } = session
    const assignment = await hooks.assignment(machine)
    const open = await hooks.open(machine)
    const tellAll = await hooks.tellAll(machine)
    session.assignment = `${assignment.host ?? ''}\0${assignment.group ?? ''}`
    session.send({
      message: {
        case: 'welcome',
        value: {
          protocol: admission.protocol,
          heartbeatInterval: durationFromMs(this.#deps.heartbeatMs),
          now: timestampFromDate(clock.now()),
          assignment,
          version: VERSION,
          openOperations: open.slice(0, MOST_OPEN),
          tellAll,
        },
      },
    })
    if (admission.needFacts) session.send({ message: { case: 'factsRequest', value: {} } })
    const notice = hooks.trustNotice(machine)
    if (notice) session.send({ message: { case: 'trust', value: notice } })
    const head = hooks.auditHead()
    if (head)
      session.send({ message: { case: 'auditHead', value: { id: BigInt(head.id), hash: head.hash } } })
  }

  /** Goes once through the event loop that serves all sessions, and fails when they are served no longer. */
  async roundTrip(): Promise<void> {
    await setImmediate()
    if (this.#deps.signal.aborted) throw new Error('the coordinator stops')
  }

  /** Tells all agents that the coordinator stops and means to be back, and gives what they are sent a moment to leave. */
  async announceRestart(expectedMs: number): Promise<void> {
    this.broadcast(
      Encoded.of(SessionResponseSchema, {
        message: { case: 'restart', value: { expected: durationFromMs(expectedMs) } },
      }),
    )
    await this.drained(FAREWELL_MS)
  }

  /** Waits until every session has taken what it was sent, at most so many milliseconds. */
  async drained(mostMs: number): Promise<void> {
    const until = performance.now() + mostMs
    while (performance.now() < until) {
      if ([...this.#holders.sessions()].every(({ outbox }) => outbox.closed || outbox.size === 0)) return
      await pause(10)
    }
  }

  /** Writes liveness and ends sessions that fell silent, until the signal fires. */
  async run(): Promise<void> {
    const { signal, heartbeatMs, log } = this.#deps
    for (let whole = true; whole; ) {
      whole = await pause(heartbeatMs, signal)
      try {
        this.#endSilent()
        await this.flush()
      } catch (error) {
        log.error({ err: error }, 'liveness not written')
      }
    }
    await this.announceRestart(this.#deps.restartExpectedMs ?? RESTART_MS)
    for (const machine of [...this.#holders.machines()]) {
      for (const session of this.#holders.all(machine))
        session.end(status.UNAVAILABLE, 'the coordinator stops')
    }
    await this.#orders.idle()
    await this.flush()
  }

  async flush(): Promise<void> {
    if (this.#seen.size === 0) return
    const batch = this.#seen
    this.#seen = new Map()
    await this.#deps.hooks.lastSeen(new Map([...batch].map(([machine, ms]) => [machine, new Date(ms)])))
  }

  async #readHello(reader: AsyncIterator<SessionRequest>): Promise<Hello> {
    const first = await this.#nextWithin(reader, this.#deps.helloMs ?? HELLO_MS)
    const message = first.done ? undefined : first.value.message
    if (message?.case !== 'hello') {
      throw new RpcError(status.INVALID_ARGUMENT, 'message: the first message of a session is hello')
    }
    if (message.value.instance.length === 0 || message.value.instance.length > 64) {
      throw new RpcError(status.INVALID_ARGUMENT, 'hello.instance: 1 to 64 characters')
    }
    return message.value
  }

  /** A stream that says nothing is no session yet, so no heartbeat ends it. */
  async #nextWithin(reader: AsyncIterator<SessionRequest>, ms: number) {
    try {
      return await withDeadline(ms, this.#deps.signal, () => reader.next())
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error
      throw new RpcError(status.DEADLINE_EXCEEDED, `message: no hello came within ${ms} ms`)
    }
  }

  #leave(session: LiveSession): void {
    this.#holders.leave(session)
    if (!this.#holders.live(session.machine)) this.#probes.left(session.machine)
  }

  async #read(session: LiveSession, reader: AsyncIterator<SessionRequest>): Promise<void> {
    const { hooks, clock, log } = this.#deps
    try {
      for (let next = await reader.next(); !next.done; next = await reader.next()) {
        if (!hooks.allowed(session.machine)) {
          session.end(status.PERMISSION_DENIED, 'this machine was evicted or banned')
          return
        }
        session.lastMessageMs = clock.now().getTime()
        session.messages += 1
        this.#seen.set(session.machine, session.lastMessageMs)
        await this.#handle(session, next.value)
        if (session.outbox.closed) return
      }
      session.outbox.close()
    } catch (error) {
      if (error instanceof RpcError) {
        session.outbox.fail(error)
      } else {
        log.error({ machineId: session.machine, err: error }, 'message of a machine not handled')
        session.end(status.INTERNAL, 'internal error; the coordinator’s log has it')
      }
    } finally {
      await reader.return?.()
    }
  }

  async #handle(session: LiveSession, request: SessionRequest): Promise<void> {
    const { hooks, clock } = this.#deps
    const { machine } = session
    const { message } = request
    switch (message.case) {
      case 'heartbeat':
        session.send({ message: { case: 'heartbeatAck', value: { now: timestampFromDate(clock.now()) } } })
        return
      case 'facts': {
        const { digest } = await hooks.facts(machine, message.value.facts)
        session.send({ message: { case: 'factsAck', value: { digest } } })
        this.wake(machine) // facts may have changed which host the machine is
        return
      }
      case 'operation': {
        const ack = await hooks.report(machine, message.value, session.instance)
        session.send({ message: { case: 'operationAck', value: ack } })
        return
      }
      case 'log':
        await hooks.log(machine, message.value)
        return
      case 'event':
        await hooks.event(machine, message.value)
        return
      case 'trust':
        await hooks.trust(machine, message.value)
        return
      case 'probeAnswer':
        this.#probes.answer(machine, message.value)
        return
      case 'status':
        await hooks.status(machine, message.value)
        return
      case 'clusterReport':
        await hooks.clusters.report(machine, message.value)
        return
      case 'clusterState':
        await hooks.clusters.state(machine, message.value)
        return
      case 'hello':
        throw new RpcError(status.INVALID_ARGUMENT, 'message: hello is sent once')
      case undefined:
        return // from a newer agent: a kind of message this version does not know
    }
  }

  async #deliver(machine: string): Promise<void> {
    const { hooks, log } = this.#deps
    const session = this.#holders.live(machine)
    if (!session || session.disputed) return
    const assignment = await hooks.assignment(machine)
    const told = `${assignment.host ?? ''}\0${assignment.group ?? ''}`
    if (session.assignment !== told) {
      session.assignment = told
      session.send({ message: { case: 'assignment', value: assignment } })
    }
    const orders = await hooks.orders(machine)
    if (orders.length === 0 || session.disputed || !hooks.allowed(machine)) return
    const fresh = orders.filter(order => session.firstTime(order.operationId ?? ''))
    const sent = fresh.filter(order => session.send({ message: { case: 'order', value: order } }))
    if (sent.length > 0) {
      await hooks.delivered(
        machine,
        sent.map(order => order.operationId ?? ''),
      )
      log.info({ machineId: machine, operations: sent.map(order => order.operationId) }, 'orders delivered')
    }
  }

  #endSilent(): void {
    const { clock, heartbeatMs } = this.#deps
    const nowMs = clock.now().getTime()
    const oldest = nowMs - 3 * heartbeatMs - 1_000
    for (const machine of [...this.#holders.machines()]) {
      for (const session of [...this.#holders.all(machine)]) {
        if (session.notAfterMs <= nowMs) {
          session.end(status.UNAUTHENTICATED, 'the certificate has ended; renew it and connect anew')
        } else if (session.lastMessageMs < oldest) {
          session.end(status.DEADLINE_EXCEEDED, `silent for three heartbeats of ${heartbeatMs} ms`)
        }
      }
    }
  }
}
