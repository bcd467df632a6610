import type { Clock } from '../../shared/clock.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import { Throttle } from './throttle.ts'

const MAX_KNOWN = 1_000
const QUIET_MS = 10 * 60_000
/** What strangers may add to the events: so many at once, and later one in five seconds. */
const BURST = 200
const PER_SECOND = 0.2

/**
 * Shows refusals to operators.
 * INVARIANTS: one refusal that repeats is written once in ten minutes; what is remembered of refusals is bounded, so
 * that strangers can fill neither memory nor store (their requests are rate limited before they get here). Events are
 * kept up to a number: what strangers cause stays so rare that it does not push out what operators did.
 */
export class RefusalLog {
  readonly #store: Store
  readonly #clock: Clock
  readonly #seen = new Map<string, number>()
  readonly #room = new Throttle(PER_SECOND, BURST)

  constructor(store: Store, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Takes the room of one event that a stranger causes; false: there is none left for a while. */
  takeRoom(now: Date): boolean {
    return this.#room.take(now.getTime()) === 0
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
