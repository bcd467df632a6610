import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
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
  readonly log: Log
}

/** What a stranger may send; the facts are kept within it where they are read. */
const MAX_ENROLMENT_FACTS_BYTES = 64 * 1024

/** Holds the newest facts. INVARIANT: one child at a time; who asks during a reading gets the result of that reading. */
export class FactsKeeper {
  readonly #deps: FactsKeeperDeps
  readonly #listeners = new Set<() => void>()
  readonly #signal: AbortSignal
  #latest: SerialisedFacts | undefined
  #readAtMs = Number.NEGATIVE_INFINITY
  #reading: Promise<SerialisedFacts> | undefined

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

  /** Reads them at start and then in the given rhythm. */
  async keepFresh(): Promise<void> {
    do {
      try {
        await this.refresh()
      } catch (error) {
        if (!this.#signal.aborted) this.#deps.log.warn({ err: reasonOf(error) }, 'facts could not be read')
      }
    } while (await pause(this.#deps.everyMs, this.#signal))
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
