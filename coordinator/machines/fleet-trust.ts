import type { Kysely } from 'kysely'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type KnownTrust, readTrustSet } from '../../shared/trust/trust-set.ts'
import type { Database } from '../store/tables.ts'
import { trustChain } from '../store/trust-sets.ts'

interface Snapshot {
  readonly chain: readonly Envelope[]
  readonly newest: KnownTrust | undefined
}

/** The trust sets in memory, since every stranger is sent them. One snapshot behind one reference. */
export class FleetTrust {
  #snapshot: Snapshot = { chain: [], newest: undefined }

  static async load(db: Kysely<Database>): Promise<FleetTrust> {
    const trust = new FleetTrust()
    await trust.reload(db)
    return trust
  }

  /** Reads the store again, after a set was given or came with a revision. Never goes back. */
  async reload(db: Kysely<Database>): Promise<void> {
    const chain = await trustChain(db)
    const newest = newestOf(chain)
    if ((newest?.number ?? 0) >= this.number) this.#snapshot = { chain, newest }
  }

  chain(): readonly Envelope[] {
    return this.#snapshot.chain
  }

  get newest(): KnownTrust | undefined {
    return this.#snapshot.newest
  }

  /** 0: no set was given yet. */
  get number(): number {
    return this.#snapshot.newest?.number ?? 0
  }
}

/** From the chain itself, so that a set that is given meanwhile is in both or in neither. */
function newestOf(chain: readonly Envelope[]): KnownTrust | undefined {
  const last = chain.at(-1)
  if (!last) return undefined
  const read = readTrustSet(last.payload)
  if (read.kind === 'ok') return read.trust
  throw new Error(`the newest trust set in the store is damaged (${read.reason}): restore a backup`)
}
