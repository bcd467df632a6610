import type { Timestamp } from '@bufbuild/protobuf/wkt'
import { instantOf } from '../../shared/time.ts'

/** Above this a skew is reported. */
const REPORT_SKEW_MS = 30_000

/**
 * How far this machine's clock is from the coordinator's: from what it last told, and the time that has gone by since on a
 * clock that nobody can set. So a clock that is set is seen at once, and not when the coordinator speaks the next time.
 */
export class ClockSkew {
  readonly #clock: { now(): Date }
  readonly #monotonicMs: () => number
  #told: { readonly theirsMs: number; readonly atMs: number } | undefined
  #reported = false

  constructor(clock: { now(): Date }, monotonicMs: () => number = () => performance.now()) {
    this.#clock = clock
    this.#monotonicMs = monotonicMs
  }

  get ms(): number | undefined {
    if (!this.#told) return undefined
    const theirsMs = this.#told.theirsMs + this.#monotonicMs() - this.#told.atMs
    return Math.round(this.#clock.now().getTime() - theirsMs)
  }

  /** Takes a time told by the coordinator. Gives the sentence to report when the skew became too large just now. */
  observe(told: Timestamp | undefined): string | undefined {
    const theirs = instantOf(told)
    if (!theirs) return undefined
    this.#told = { theirsMs: theirs.getTime(), atMs: this.#monotonicMs() }
    const ms = this.ms ?? 0
    const large = Math.abs(ms) > REPORT_SKEW_MS
    const report = large && !this.#reported
    this.#reported = large
    if (!report) return undefined
    const seconds = Math.round(Math.abs(ms) / 1000)
    return `this machine’s clock is ${seconds} s ${ms > 0 ? 'ahead of' : 'behind'} the coordinator’s`
  }
}
