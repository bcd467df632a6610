import type { Kysely } from 'kysely'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'
import type { Database } from '../store/tables.ts'
import { newestTrust, trustChain } from '../store/trust-sets.ts'

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
    const newest = await newestTrust(db)
    const chain = await trustChain(db)
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
