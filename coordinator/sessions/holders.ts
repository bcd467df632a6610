import { status } from '@grpc/grpc-js'
import type { Clock } from '../../shared/clock.ts'
import { pause } from '../../shared/lifecycle.ts'
import type { Logger } from '../../shared/log.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { SessionHooks } from './hooks.ts'
import type { LiveSession } from './live-session.ts'

/** Further holders of one key that may be connected while a dispute lasts. */
const MAX_OTHERS = 8

export interface HoldersDeps {
  readonly hooks: Pick<SessionHooks, 'clone'>
  readonly clock: Clock
  readonly log: Logger
  /** How long the older of two holders of a key has to answer before it is taken for dead. */
  readonly challengeMs: number
  readonly signal: AbortSignal
  /** What waited for a machine while there were two of it may be sent. */
  readonly wake: (machine: string) => void
}

/**
 * Who holds which key now.
 * INVARIANTS: at most one session of a machine is live; while two holders of one key are connected both are disputed, and
 * nothing is sent to either that acts.
 */
export class Holders {
  readonly #deps: HoldersDeps
  /** The session acted on, by machine. */
  readonly #live = new Map<string, LiveSession>()
  /** Further holders of a key, while a dispute lasts. */
  readonly #others = new Map<string, Set<LiveSession>>()

  constructor(deps: HoldersDeps) {
    this.#deps = deps
  }

  live(machine: string): LiveSession | undefined {
    return this.#live.get(machine)
  }

  /** Machines that have a session. */
  machines(): MapIterator<string> {
    return this.#live.keys()
  }

  get count(): number {
    return this.#live.size
  }

  /** The session of each machine. */
  sessions(): MapIterator<LiveSession> {
    return this.#live.values()
  }

  *all(machine: string): Iterable<LiveSession> {
    const live = this.#live.get(machine)
    if (live) yield live
    yield* this.#others.get(machine) ?? []
  }

  /** Puts a session in its place; settles at once or begins a dispute when another holder of the key is connected. */
  enter(session: LiveSession): void {
    const { machine } = session
    const before = this.#live.get(machine)
    if (!before || before.outbox.closed || before.instance === session.instance) {
      this.#live.set(machine, session)
      before?.end(status.ABORTED, 'the same agent opened a newer session')
      return
    }
    before.disputed = true
    session.disputed = true
    const others = this.#others.get(machine) ?? new Set()
    if (others.size >= MAX_OTHERS) {
      throw new RpcError(status.RESOURCE_EXHAUSTED, 'too many sessions with this key')
    }
    others.add(session)
    this.#others.set(machine, others)
    void this.#settle(before, session)
  }

  /**
   * Two holders of one key. Dead connections do not answer: then the newer one simply takes its place. Two that answer
   * are a clone: both stay connected, neither is acted on until a person looked.
   */
  async #settle(before: LiveSession, session: LiveSession): Promise<void> {
    const { challengeMs, clock, hooks, log, signal } = this.#deps
    const asked = clock.now().getTime()
    for (const holder of [before, session]) {
      holder.send({ message: { case: 'challenge', value: { reason: 'another machine holds the same key' } } })
    }
    const until = asked + challengeMs
    const counts = [before.messages, session.messages] as const
    const bothAnswered = () => before.messages > counts[0] && session.messages > counts[1]
    while (clock.now().getTime() < until && !signal.aborted) {
      if (before.outbox.closed || session.outbox.closed) break
      if (bothAnswered()) {
        const reason = `two machines are connected with this key, from ${before.address} and ${session.address}`
        log.warn({ machineId: before.machine, addresses: [before.address, session.address] }, 'clone found')
        await hooks
          .clone(before.machine, reason)
          .catch(error => log.error({ err: error, machineId: before.machine }, 'clone not recorded'))
        return
      }
      await pause(Math.max(1, Math.min(50, challengeMs / 10)), signal)
    }
    if (signal.aborted) return
    if (session.outbox.closed) {
      before.disputed = (this.#others.get(before.machine)?.size ?? 0) > 0
      this.#deps.wake(before.machine)
    } else {
      before.end(status.ABORTED, 'a newer session took the place of one that did not answer')
      this.#promote(session)
    }
  }

  #promote(session: LiveSession): void {
    const others = this.#others.get(session.machine)
    others?.delete(session)
    if (others?.size === 0) this.#others.delete(session.machine)
    this.#live.set(session.machine, session)
    session.disputed = (this.#others.get(session.machine)?.size ?? 0) > 0
    this.#deps.wake(session.machine)
  }

  /** Takes a session that ended out. */
  leave(session: LiveSession): void {
    const { machine } = session
    const others = this.#others.get(machine)
    others?.delete(session)
    if (others?.size === 0) this.#others.delete(machine)
    if (this.#live.get(machine) === session) {
      this.#live.delete(machine)
      const next = others?.values().next().value
      if (next) this.#promote(next)
    } else {
      const live = this.#live.get(machine)
      if (live?.disputed && !this.#others.has(machine)) {
        live.disputed = false
        this.#deps.wake(machine) // what waited while there were two of them
      }
    }
  }
}
