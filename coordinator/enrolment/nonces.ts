import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

const LIFETIME_MS = 5 * 60_000
const BODY_BYTES = 16
const NONCE_BYTES = 32
/** Enrolments in five minutes that are remembered; ten times what a coordinator can certify. */
const MAX_USED = 200_000

/**
 * Nonces for one proof each. A nonce carries its own time and a seal only this process can make, so giving one out costs
 * no memory and a flood of strangers who begin cannot push out the nonce of a machine that is about to answer.
 * INVARIANTS: each serves once; none is older than five minutes; what is remembered is those that were used, at most so
 * many, and beyond them nothing is taken. In memory alone: after a restart a machine simply asks for another.
 */
export class Nonces {
  readonly #key = randomBytes(32)
  /** Nonces that were used and are not too old yet, in the order of use, with the end of their time. */
  readonly #used = new Map<string, number>()

  issue(nowMs: number): Buffer {
    const body = randomBytes(BODY_BYTES)
    body.writeBigUInt64BE(BigInt(Math.max(0, Math.trunc(nowMs))))
    return Buffer.concat([body, this.#seal(body)])
  }

  /** Whether a nonce is one of ours, young enough and not used yet. Costs a hash and changes nothing. */
  isGood(nonce: Uint8Array, nowMs: number): boolean {
    const bytes = Buffer.from(nonce)
    if (bytes.length !== NONCE_BYTES) return false
    const body = bytes.subarray(0, BODY_BYTES)
    if (!timingSafeEqual(this.#seal(body), bytes.subarray(BODY_BYTES))) return false
    return this.#endOf(body) > nowMs && !this.#used.has(bytes.toString('hex'))
  }

  /** Uses a nonce up. False: it is not ours, too old, or was used before. */
  take(nonce: Uint8Array, nowMs: number): boolean {
    if (!this.isGood(nonce, nowMs)) return false
    for (const [used, endMs] of this.#used) {
      if (endMs > nowMs) break
      this.#used.delete(used)
    }
    if (this.#used.size >= MAX_USED) return false
    // By the end of the newest: the first in order is then always the first that may be forgotten.
    this.#used.set(Buffer.from(nonce).toString('hex'), nowMs + LIFETIME_MS)
    return true
  }

  /** How many are remembered. */
  get size(): number {
    return this.#used.size
  }

  #endOf(body: Buffer): number {
    return Number(body.readBigUInt64BE()) + LIFETIME_MS
  }

  #seal(body: Buffer): Buffer {
    return createHmac('sha256', this.#key)
      .update(body)
      .digest()
      .subarray(0, NONCE_BYTES - BODY_BYTES)
  }
}
