import type { CelInput } from '@bufbuild/cel'
import type { Kysely } from 'kysely'
import { factsToCel } from '../../shared/query/message-to-cel.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { MAX_FACTS_BYTES, readFacts } from '../machines/read-facts.ts'
import { newestFacts } from '../store/facts.ts'
import type { Database } from '../store/tables.ts'

/** Serialised bytes whose decoded forms are kept; decoded they take some eight times as much. */
const MAX_CACHED_BYTES = 32 * 1024 * 1024

interface Decoded {
  readonly digest: string
  readonly facts: CelInput
  readonly bytes: number
}

/**
 * Stored facts in the form that expressions read, so that a question to the whole fleet decodes only what is new.
 * INVARIANTS: an entry is used only for the digest it was made of; what is kept is bounded, and the facts that were
 * longest unused go first.
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

  /** The facts of some machines (at most 500); one without readable facts is missing. */
  async read(db: Kysely<Database>, entries: readonly MachineEntry[]): Promise<ReadonlyMap<string, CelInput>> {
    const found = new Map<string, CelInput>()
    const missing: string[] = []
    for (const { id, factsDigest } of entries) {
      if (factsDigest === '') continue
      const decoded = this.#decoded.get(id)
      if (decoded?.digest === factsDigest) {
        // Moved to the end: the map's order is the order of use.
        this.#decoded.delete(id)
        this.#decoded.set(id, decoded)
        found.set(id, decoded.facts)
      } else missing.push(id)
    }
    if (missing.length === 0) return found
    for (const [id, bytes] of await newestFacts(db, missing)) {
      const read = readFacts(bytes, MAX_FACTS_BYTES)
      if (read.kind === 'refused') continue
      const facts = factsToCel(read.facts)
      found.set(id, facts)
      this.#keep(id, { digest: read.digest, facts, bytes: bytes.length })
    }
    return found
  }

  #keep(id: string, decoded: Decoded): void {
    this.#bytes += decoded.bytes - (this.#decoded.get(id)?.bytes ?? 0)
    this.#decoded.delete(id)
    this.#decoded.set(id, decoded)
    for (const [oldest, { bytes }] of this.#decoded) {
      if (this.#bytes <= this.#mostBytes) return
      this.#decoded.delete(oldest)
      this.#bytes -= bytes
    }
  }
}
