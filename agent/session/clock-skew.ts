import type { Timestamp } from '@bufbuild/protobuf/wkt'
import { instantOf } from '../../shared/time.ts'

/** Above this a skew is reported. */
const REPORT_SKEW_MS = 30_000

/** How far this machine's clock is from the coordinator's, as last told. */
export class ClockSkew {
  #ms: number | undefined
  #reported = false

  get ms(): number | undefined {
    return this.#ms
  }

  /** Takes a time told by the coordinator. Gives the sentence to report when the skew became too large just now. */
  observe(told: Timestamp | undefined, now: Date): string | undefined {
    const theirs = instantOf(told)
    if (!theirs) return undefined
    this.#ms = now.getTime() - theirs.getTime()
    const large = Math.abs(this.#ms) > REPORT_SKEW_MS
    const report = large && !this.#reported
    this.#reported = large
    if (!report) return undefined
    const seconds = Math.round(Math.abs(this.#ms) / 1000)
    return `this machine’s clock is ${seconds} s ${this.#ms > 0 ? 'ahead of' : 'behind'} the coordinator’s`
  }
}
