import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { Log } from '../log.ts'

/** Facts as they travel: a serialised Facts and its SHA-256. */
export interface SerialisedFacts {
  readonly bytes: Uint8Array
  readonly digest: string
}

export interface FactsKeeperDeps {
  /** Reads the facts in a child, so that this process never holds what reading them takes. */
  readonly collect: (signal: AbortSignal) => Promise<SerialisedFacts>
  readonly everyMs: number
  /** Between readings that fail. */
  readonly retry: { readonly firstMs: number; readonly mostMs: number }
  readonly log: Log
}

/** What a stranger may send; the facts are kept within it where they are read. */
const MAX_ENROLMENT_FACTS_BYTES = 64 * 1024

/**
 * Holds the newest facts. INVARIANTS: one child at a time; who asks during a reading gets the result of that reading; after
 * `outdate` a reading follows that began later.
 */
export class FactsKeeper {
  readonly #deps: FactsKeeperDeps
  readonly #listeners = new Set<() => void>()
  readonly #signal: AbortSignal
  #latest: SerialisedFacts | undefined
  #readAtMs = Number.NEGATIVE_INFINITY
  #reading: Promise<SerialisedFacts> | undefined
  #isOutdated = false
  #wake = () => {}

  constructor(deps: FactsKeeperDeps, signal: AbortSignal) {
    this.#deps = deps
    this.#signal = signal
  }

  get latest(): SerialisedFacts | undefined {
    return this.#latest
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Reads the facts afresh. */
  refresh(): Promise<SerialisedFacts> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  /** The newest facts when they are not older than this, else read afresh. */
  recent(mostAgeMs: number): Promise<SerialisedFacts> {
    const young = this.#latest && performance.now() - this.#readAtMs <= mostAgeMs
    return young && this.#latest ? Promise.resolve(this.#latest) : this.refresh()
  }

  async #read(): Promise<SerialisedFacts> {
    const facts = await this.#deps.collect(this.#signal)
    const changed = facts.digest !== this.#latest?.digest
    this.#latest = facts
    this.#readAtMs = performance.now()
    if (changed) for (const listener of this.#listeners) listener()
    return facts
  }

  /** Something was changed on this machine: has the facts read anew, soon and beside whatever goes on. */
  outdate(): void {
    this.#isOutdated = true
    this.#wake()
  }

  /** Reads them at start, whenever they are outdated, and in the given rhythm. */
  async keepFresh(): Promise<void> {
    const { everyMs, retry, log } = this.#deps
    let failures = 0
    do {
      // One that is under way may have begun before the change.
      while (this.#reading) await this.#reading.catch(() => {}) // told to who asked for it
      this.#isOutdated = false
      try {
        await this.refresh()
        failures = 0
      } catch (error) {
        if (!this.#signal.aborted) log.warn({ err: reasonOf(error) }, 'facts could not be read')
        failures += 1
      }
      await this.#untilOutdated(failures === 0 ? everyMs : Math.min(everyMs, backoffMs(failures - 1, retry)))
    } while (!this.#signal.aborted)
  }

  async #untilOutdated(mostMs: number): Promise<void> {
    const waiting = new AbortController()
    const wake = () => waiting.abort()
    this.#wake = wake
    this.#signal.addEventListener('abort', wake, { once: true })
    try {
      if (!this.#isOutdated && !this.#signal.aborted) await pause(mostMs, waiting.signal)
    } finally {
      this.#signal.removeEventListener('abort', wake)
    }
  }

  /** For enrolment: within the bound for strangers, and never absent without saying why. */
  async forEnrolment(): Promise<Uint8Array> {
    try {
      const { bytes } = this.#latest ?? (await this.refresh())
      if (bytes.length > MAX_ENROLMENT_FACTS_BYTES) throw new Error(`they take ${bytes.length} bytes`)
      return bytes
    } catch (error) {
      const warnings = [`facts: not told: ${reasonOf(error)}`.slice(0, 512)]
      return toBinary(FactsSchema, create(FactsSchema, { warnings }))
    }
  }

  /** SMBIOS serial, as far as it is known. */
  serial(): string {
    return this.#latest ? (fromBinary(FactsSchema, this.#latest.bytes).system?.serial ?? '') : ''
  }
}
