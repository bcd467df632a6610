import type { CelInput } from '@bufbuild/cel'
import type { Kysely } from 'kysely'
import { encodedFactsToCel } from '../../shared/query/message-to-cel.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { MAX_FACTS_BYTES, readFacts } from '../machines/read-facts.ts'
import { newestFacts } from '../store/facts.ts'
import type { Database } from '../store/tables.ts'

/** Bytes of the facts that are kept; what of them was asked for is kept decoded, too, and takes up to eight times as much. */
const MAX_CACHED_BYTES = 32 * 1024 * 1024

interface Decoded {
  readonly digest: string
  readonly facts: CelInput
  readonly bytes: number
  /** Since the cache last looked for something to drop. */
  used: boolean
}

/**
 * Stored facts in the form that expressions read, so that a question to the whole fleet decodes only what is new.
 * INVARIANTS: an entry is used only for the digest it was made of; what is kept is bounded, and facts that were used
 * since room was last made outlive those that were not.
 */
export class FactsCache {
  readonly #decoded = new Map<string, Decoded>()
  readonly #mostBytes: number
  #bytes = 0

  constructor(mostBytes: number = MAX_CACHED_BYTES) {
    this.#mostBytes = mostBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The facts of some machines (at most 500), in their order; undefined for one without readable facts. */
  async read(
    db: Kysely<Database>,
    entries: readonly MachineEntry[],
  ): Promise<readonly (CelInput | undefined)[]> {
    const missing: string[] = []
    const found = entries.map(({ id, factsDigest }) => {
      if (factsDigest === '') return undefined
      const decoded = this.#decoded.get(id)
      if (decoded?.digest !== factsDigest) {
        missing.push(id)
        return undefined
      }
      decoded.used = true
      return decoded.facts
    })
    if (missing.length === 0) return found
    const made = new Map<string, CelInput>()
    for (const [id, bytes] of await newestFacts(db, missing)) {
      const read = readFacts(bytes, MAX_FACTS_BYTES)
      if (read.kind === 'refused') continue
      const facts = encodedFactsToCel(bytes)
      made.set(id, facts)
      this.#keep(id, { digest: read.digest, facts, bytes: bytes.length, used: false })
    }
    return found.map((facts, at) => facts ?? made.get(entries[at]?.id ?? ''))
  }

  #keep(id: string, decoded: Decoded): void {
    this.#bytes += decoded.bytes - (this.#decoded.get(id)?.bytes ?? 0)
    this.#decoded.delete(id)
    this.#decoded.set(id, decoded)
    // The map's order is that of a clock's hand: who was used is passed over once.
    for (const [oldest, other] of this.#decoded) {
      if (this.#bytes <= this.#mostBytes) return
      this.#decoded.delete(oldest)
      if (other.used) {
        other.used = false
        this.#decoded.set(oldest, other)
      } else this.#bytes -= other.bytes
    }
  }
}
