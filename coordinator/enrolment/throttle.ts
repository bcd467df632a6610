/** A token bucket: so many requests a second, and so many at once after a quiet time. */
export class Throttle {
  readonly #perSecond: number
  readonly #burst: number
  #left: number
  #filledMs = 0

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#left = burst
  }

  /** Takes one request: 0 when it may go on, else the seconds until one will. */
  take(nowMs: number): number {
    const passedMs = Math.max(0, nowMs - this.#filledMs)
    this.#filledMs = nowMs
    this.#left = Math.min(this.#burst, this.#left + (passedMs / 1000) * this.#perSecond)
    if (this.#left >= 1) {
      this.#left -= 1
      return 0
    }
    return Math.max(1, Math.ceil((1 - this.#left) / this.#perSecond))
  }
}
