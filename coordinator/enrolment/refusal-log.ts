import type { Clock } from '../../shared/clock.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import { Throttle } from './throttle.ts'

const MAX_KNOWN = 1_000
const QUIET_MS = 10 * 60_000
/** What strangers may add to the events: so many at once, and later one in five seconds. */
const BURST = 200
const PER_SECOND = 0.2
/** The same for lines of the log. */
const LINES_BURST = 100
const LINES_PER_SECOND = 1

/**
 * Shows refusals to operators, and says which of them are logged.
 * INVARIANTS: one refusal that repeats is written once in ten minutes; what is remembered of refusals is bounded, so
 * that strangers can fill neither memory, store nor log. Events are kept up to a number: what strangers cause stays so rare
 * that it does not push out what operators did.
 */
export class RefusalLog {
  readonly #store: Store
  readonly #clock: Clock
  readonly #seen = new Map<string, number>()
  readonly #room = new Throttle(PER_SECOND, BURST)
  readonly #lines = new Throttle(LINES_PER_SECOND, LINES_BURST)
  #unlogged = 0

  constructor(store: Store, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Takes the room of one event that a stranger causes; false: there is none left for a while. */
  takeRoom(now: Date): boolean {
    return this.#room.take(now.getTime()) === 0
  }

  /**
   * Takes the room of one line that a stranger causes; undefined: there is none. Otherwise how many had none since the
   * last one that had.
   */
  takeLine(now: Date): number | undefined {
    if (this.#lines.take(now.getTime()) > 0) {
      this.#unlogged += 1
      return undefined
    }
    const unlogged = this.#unlogged
    this.#unlogged = 0
    return unlogged
  }

  async record(refusal: {
    /** As claimed, or as proved. */
    readonly machine: string
    readonly class: string
    readonly reason: string
    readonly address: string
  }): Promise<void> {
    const now = this.#clock.now()
    const key = `${refusal.machine} ${refusal.class} ${refusal.machine === '' ? refusal.address : ''}`
    const last = this.#seen.get(key)
    if (last !== undefined && now.getTime() - last < QUIET_MS) return
    this.#seen.delete(key)
    this.#seen.set(key, now.getTime())
    const oldest = this.#seen.keys().next()
    if (this.#seen.size > MAX_KNOWN && !oldest.done) this.#seen.delete(oldest.value)
    if (!this.takeRoom(now)) return
    await this.#store.transact(tx =>
      recordEvent(tx, {
        at: now,
        class: 'refused',
        machine: refusal.machine,
        reason: `${refusal.class}: ${refusal.reason} (from ${refusal.address || 'an unknown address'})`,
        actor: 'coordinator',
      }),
    )
  }
}
