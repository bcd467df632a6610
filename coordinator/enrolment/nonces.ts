import { randomBytes } from 'node:crypto'

const MAX_NONCES = 10_000
const LIFETIME_MS = 5 * 60_000

/**
 * The nonces that were given out and not used.
 * INVARIANTS: each serves once; none is older than five minutes; at most 10,000, the oldest give way. Kept in memory
 * alone: after a restart a machine simply asks for another.
 */
export class Nonces {
  /** In the order they were made, so the first is the oldest. */
  readonly #given = new Map<string, number>()

  issue(nowMs: number): Buffer {
    for (const [nonce, madeMs] of this.#given) {
      if (this.#given.size < MAX_NONCES && madeMs > nowMs - LIFETIME_MS) break
      this.#given.delete(nonce)
    }
    const nonce = randomBytes(32)
    this.#given.set(nonce.toString('hex'), nowMs)
    return nonce
  }

  /** Uses a nonce up. False: it is not ours, too old, or was used before. */
  take(nonce: Uint8Array, nowMs: number): boolean {
    const key = Buffer.from(nonce).toString('hex')
    const madeMs = this.#given.get(key)
    if (madeMs === undefined) return false
    this.#given.delete(key)
    return madeMs > nowMs - LIFETIME_MS
  }

  get size(): number {
    return this.#given.size
  }
}
