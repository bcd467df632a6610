import type { DriverReading } from '../drivers/create-driver.ts'
import type { Log } from '../log.ts'
import type { ActDeps } from './acts/act.ts'
import { createHandover } from './acts/handover.ts'

export interface TokenKeeperDeps extends ActDeps {
  readonly openDriver: () => Promise<DriverReading>
  readonly log: Log
  /** Between looks while something goes on, and at most between them while something is kept. */
  readonly retry: { readonly firstMs: number; readonly mostMs: number }
}

/** While a token is kept and nothing goes on: a machine that comes up without it waits for no longer. */
const LATER_MS = 15_000

/**
 * Looks after the token of k3s' servers that another server makes anew, or that was left between two: whenever somebody asks for the
 * cluster's state, and by itself as long as anything is to be done. It needs no coordinator.
 */
export class TokenKeeper {
  readonly #deps: TokenKeeperDeps
  readonly #wake: () => void
  #dueMs = 0
  #timer: NodeJS.Timeout | undefined
  #last = ''

  /** `wake` is called when there is a look to be had. */
  constructor(deps: TokenKeeperDeps, wake: () => void) {
    this.#deps = deps
    this.#wake = wake
  }

  get isDue(): boolean {
    return performance.now() >= this.#dueMs
  }

  /** A look is worth its while. */
  want(): void {
    this.#again(0)
  }

  /** Never throws: what broke is looked at again. */
  async look(signal: AbortSignal): Promise<void> {
    const { retry, log } = this.#deps
    this.#dueMs = Number.POSITIVE_INFINITY
    const later = Math.min(retry.mostMs, LATER_MS)
    try {
      const reading = await this.#deps.openDriver()
      const follow = reading.kind === 'driver' ? reading.driver.followToken : undefined
      if (reading.kind !== 'driver' || !follow) return
      const followed = await follow(createHandover(this.#deps, reading.driver.facts), signal)
      if (signal.aborted) return
      const { kind, ...said } = followed
      const text = JSON.stringify(said)
      if (text !== this.#last && kind !== 'rest') log.info(said, 'new token of servers looked after')
      this.#last = text
      if (kind !== 'rest') this.#again(kind === 'soon' ? Math.min(retry.firstMs, later) : later)
    } catch (err) {
      log.error({ err }, 'new token of servers could not be looked after')
      this.#again(later)
    }
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #again(ms: number): void {
    const dueMs = performance.now() + ms
    if (dueMs >= this.#dueMs) return
    this.#dueMs = dueMs
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.#wake, ms === 0 ? 0 : ms + 1)
  }
}
