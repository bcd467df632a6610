import type { ChainHead } from '../../shared/audit/event-chain.ts'
import { SessionResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { Encoded } from '../../shared/rpc/definition.ts'
import type { SessionRegistry } from '../sessions/registry.ts'
import { newestLink } from '../store/events.ts'
import type { Store } from '../store/store.ts'

/**
 * Shows machines how far the record of events goes: they keep it, so that whoever rewrites or cuts the record later is
 * found out by what they hold. At most once an interval, because each keeps it on its disk.
 */
export class AuditHeads {
  readonly #store: Pick<Store, 'db'>
  readonly #everyMs: number
  #shown: ChainHead | undefined
  #shownAtMs = Number.NEGATIVE_INFINITY

  constructor(store: Pick<Store, 'db'>, everyMs: number) {
    this.#store = store
    this.#everyMs = everyMs
  }

  /** What was shown last: for a session that begins. */
  get shown(): ChainHead | undefined {
    return this.#shown
  }

  /** Tells every session, when it is time and something has happened since. */
  async show(registry: Pick<SessionRegistry, 'broadcast'>): Promise<void> {
    const nowMs = performance.now()
    if (nowMs - this.#shownAtMs < this.#everyMs) return
    this.#shownAtMs = nowMs
    const newest = await newestLink(this.#store.db)
    if (!newest || newest.hash === this.#shown?.hash) return
    this.#shown = newest
    const value = { id: BigInt(newest.id), hash: newest.hash }
    registry.broadcast(Encoded.of(SessionResponseSchema, { message: { case: 'auditHead', value } }))
  }
}
