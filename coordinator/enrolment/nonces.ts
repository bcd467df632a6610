import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

const LIFETIME_MS = 5 * 60_000
const BODY_BYTES = 16
const NONCE_BYTES = 32
/** Enrolments in five minutes that are remembered; ten times what a coordinator can certify. */
const MAX_USED = 200_000

/** What a nonce is worth: one proof, none any more since it had its one, or none at all: not ours, or too old. */
export type NonceState = 'good' | 'used' | 'unknown'

/**
 * Nonces for one proof each. A nonce carries its own time and a seal only this process can make, so giving one out costs
 * no memory and a flood of strangers who begin cannot push out the nonce of a machine that is about to answer.
 * INVARIANTS: each serves once; none is older than five minutes; what is remembered is those that were used, at most so
 * many, and beyond them nothing is taken. In memory alone: after a restart a machine simply asks for another. Their time is
 * one that only goes forward: over a clock that is set back, what was used would be forgotten before it is too old.
 */
export class Nonces {
  readonly #key = randomBytes(32)
  /** Nonces that were used and are not too old yet, in the order of use, with the end of their time. */
  readonly #used = new Map<string, number>()
  readonly #uptimeMs: () => number

  /** `uptimeMs` never goes back. */
  constructor(uptimeMs: () => number = () => performance.now()) {
    this.#uptimeMs = uptimeMs
  }

  issue(): Buffer {
    const body = randomBytes(BODY_BYTES)
    body.writeBigUInt64BE(BigInt(Math.trunc(this.#uptimeMs())))
    return Buffer.concat([body, this.#seal(body)])
  }

  /** Costs a hash and changes nothing. */
  judge(nonce: Uint8Array): NonceState {
    const bytes = Buffer.from(nonce)
    if (bytes.length !== NONCE_BYTES) return 'unknown'
    const body = bytes.subarray(0, BODY_BYTES)
    if (!timingSafeEqual(this.#seal(body), bytes.subarray(BODY_BYTES))) return 'unknown'
    if (this.#endOf(body) <= this.#uptimeMs()) return 'unknown'
    return this.#used.has(bytes.toString('hex')) ? 'used' : 'good'
  }

  /** Uses a nonce up if it is good; what it was before. */
  take(nonce: Uint8Array): NonceState {
    const state = this.judge(nonce)
    if (state !== 'good') return state
    const nowMs = this.#uptimeMs()
    for (const [used, endMs] of this.#used) {
      if (endMs > nowMs) break
      this.#used.delete(used)
    }
    if (this.#used.size >= MAX_USED) return 'unknown'
    // By the end of the newest: the first in order is then always the first that may be forgotten.
    this.#used.set(Buffer.from(nonce).toString('hex'), nowMs + LIFETIME_MS)
    return 'good'
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
