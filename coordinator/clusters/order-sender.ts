import type { Kysely } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type { SealedSecret } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { FleetTargetsCache } from '../revisions/fleet-targets.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { findMachine } from '../store/machines.ts'
import { findRevision } from '../store/revisions.ts'
import type { Database } from '../store/tables.ts'
import { type ClusterOrderInit, type JoinerParts, orderFor } from './cluster-messages.ts'
import type { Observation } from './cluster-snapshot.ts'
import type { ClusterIntent } from './orders-for.ts'
import type { OrderToSend } from './run-cluster.ts'

export interface SenderDeps {
  readonly db: Kysely<Database>
  readonly clock: Clock
  readonly directory: Pick<MachineDirectory, 'mayAct'>
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
  readonly sessions: Pick<Sessions, 'live' | 'send'>
  /** What a machine said last of itself to this process; undefined: nothing. */
  seenOf(machine: string): Pick<Observation, 'address' | 'machineId'> | undefined
}

/** What is not answered is said again in the same session after so long: some acts are tried by the node for a while only. */
const AGAIN_MS = 60_000

interface Told {
  /** Revision that the session was told, so that its node judges orders by it. */
  revision: number
  /** By order, when it was last written to the session. */
  readonly ordersMs: Map<string, number>
}

/**
 * Writes cluster orders to sessions.
 * INVARIANTS: a session is told the newest revision before any order that follows from it; nothing is sent to a machine that
 * is held or disputed; no order is written to a session more often than once a minute.
 */
export class OrderSender {
  readonly #deps: SenderDeps
  readonly #told = new Map<string, Told>()

  constructor(deps: SenderDeps) {
    this.#deps = deps
  }

  /** A machine has a new session, which was told nothing. */
  began(machine: string): void {
    this.#told.delete(machine)
  }

  /** Sessions that ended need no memory. */
  forgetSilent(): void {
    for (const machine of this.#told.keys()) {
      if (!this.#deps.sessions.live(machine)) this.#told.delete(machine)
    }
  }

  /** The orders that a record has for a machine. */
  async sendIntents(
    machine: string,
    cluster: string,
    address: string,
    orders: readonly OrderToSend<SealedSecret>[],
  ): Promise<void> {
    for (const { intent, secret } of orders) {
      if (!this.#isFree(machine)) return
      const key = `${intent.operation} ${intent.kind}${secret ? ' with its secret' : ''}`
      if (!this.#isDue(machine, key)) continue
      const parts = { secret, joiner: await this.#joiner(intent), address }
      const order = orderFor(cluster, intent, parts, this.#deps.clock.now().getTime())
      if (order) await this.send(machine, key, order)
    }
  }

  /** One order, unless it was sent just now. Says whether it was. */
  async send(machine: string, key: string, order: ClusterOrderInit): Promise<boolean> {
    const { sessions, clock } = this.#deps
    if (!this.#isFree(machine) || !this.#isDue(machine, key)) return false
    await this.#tellRevision(machine)
    if (!this.#isFree(machine)) return false
    if (!sessions.send(machine, { message: { case: 'clusterOrder', value: order } })) return false
    this.#toldOf(machine).ordersMs.set(key, clock.now().getTime())
    return true
  }

  #isFree(machine: string): boolean {
    const session = this.#deps.sessions.live(machine)
    return session !== undefined && !session.disputed && this.#deps.directory.mayAct(machine)
  }

  #isDue(machine: string, key: string): boolean {
    const sentMs = this.#told.get(machine)?.ordersMs.get(key)
    return sentMs === undefined || this.#deps.clock.now().getTime() - sentMs >= AGAIN_MS
  }

  #toldOf(machine: string): Told {
    const told = this.#told.get(machine) ?? { revision: 0, ordersMs: new Map() }
    this.#told.set(machine, told)
    return told
  }

  /** The node judges what it is told by the newest manifest that it has verified. */
  async #tellRevision(machine: string): Promise<void> {
    const { revision: number, manifestDigest } = this.#deps.fleetTargets.current()
    const told = this.#toldOf(machine)
    if (told.revision >= number) return
    const found = await findRevision(this.#deps.db, number)
    if (!found) return
    const value = { number: BigInt(number), manifestDigest, envelope: found.envelope }
    if (this.#deps.sessions.send(machine, { message: { case: 'revision', value } })) told.revision = number
  }

  async #joiner(intent: ClusterIntent): Promise<JoinerParts | undefined> {
    if (intent.kind !== 'mint') return undefined
    const row = await findMachine(this.#deps.db, intent.joiner)
    // What it said when it was asked just now: its facts may be of before it was copied, and come later than this.
    const { address = '', machineId = row?.machine_id ?? '' } = this.#deps.seenOf(intent.joiner) ?? {}
    return row && { key: row.public_key, machineId, address }
  }
}
