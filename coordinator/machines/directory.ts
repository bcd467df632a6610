import { setImmediate } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import { hardwareOf } from '../../shared/revision/hardware-of-facts.ts'
import { type Assignment, assignHost, bindingFault, type RuleVerdict } from '../enrolment/assign.ts'
import { type Proposal, proposeHost } from '../enrolment/propose-host.ts'
import { type FleetTargets, NO_TARGETS } from '../revisions/fleet-targets.ts'
import { allBindings } from '../store/bindings.ts'
import { allConditions } from '../store/conditions.ts'
import { newestFacts } from '../store/facts.ts'
import { pageMachines } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import { entryOf, heldBecause, isLive, type MachineEntry, type MachineState, STATES } from './entry.ts'
import { MultiIndex } from './multi-index.ts'
import { MAX_FACTS_BYTES, readFacts } from './read-facts.ts'
import { compileRules, type GroupRules, judgeRules, NO_VERDICTS } from './rule-verdicts.ts'

interface Known {
  readonly entry: MachineEntry
  /** Of the facts with the digest in the entry, under the rules in force. */
  readonly verdicts: ReadonlyMap<string, RuleVerdict>
  /** What the machine is by itself; that another one is the same host too is seen from the claims. */
  readonly own: Assignment
}

const PAGE = 500
/** Machines that one turn of the event loop judges. */
const SLICE = 100

/**
 * All machines, as far as hot paths need them, in memory.
 * INVARIANTS: the store is written first, then this; nothing here exists that the store cannot give again. A machine's
 * assignment and the claims on hosts always follow from one set of targets. Look-ups do not grow with the fleet.
 */
export class MachineDirectory {
  readonly #known = new Map<string, Known>()
  /** The machines of each host; more than one is a conflict. Only machines that were let in count. */
  readonly #claims = new MultiIndex()
  /** Machines that were let in and are no host, by the host that they say they acted as. */
  readonly #said = new MultiIndex()
  /** Machines by claimed serial and by claimed UUID, for showing who shares one. */
  readonly #bySerial = new MultiIndex()
  readonly #byUuid = new MultiIndex()
  readonly #handOf = new Map<string, string>()
  readonly #counts = new Map<MachineState, number>(STATES.map(state => [state, 0]))
  #targets: FleetTargets = NO_TARGETS
  #rules: GroupRules = compileRules(NO_TARGETS)
  /** One revision after the other: each is judged against the rules that were in force before it. */
  #turn: Promise<unknown> = Promise.resolve()

  /** Reads all machines from the store. */
  static async load(db: Kysely<Database>, targets: FleetTargets): Promise<MachineDirectory> {
    const directory = new MachineDirectory()
    for (const { host, machine } of await allBindings(db)) directory.#handOf.set(machine, host)
    const byMachine = new Map<string, Awaited<ReturnType<typeof allConditions>>>()
    for (const row of await allConditions(db)) {
      const list = byMachine.get(row.machine)
      if (list) list.push(row)
      else byMachine.set(row.machine, [row])
    }
    for (let after = ''; ; ) {
      const rows = await pageMachines(db, { after, limit: PAGE })
      for (const row of rows) directory.put(entryOf(row, byMachine.get(row.id) ?? []))
      const last = rows.at(-1)
      if (!last || rows.length < PAGE) break
      after = last.id
    }
    await directory.retarget(db, targets)
    return directory
  }

  get(id: string): MachineEntry | undefined {
    return this.#known.get(id)?.entry
  }

  *entries(): Iterable<MachineEntry> {
    for (const { entry } of this.#known.values()) yield entry
  }

  ids(): Iterable<string> {
    return this.#known.keys()
  }

  get targets(): FleetTargets {
    return this.#targets
  }

  count(state: MachineState): number {
    return this.#counts.get(state) ?? 0
  }

  /** Whether a machine may speak on the fleet listener. Asked for every message. */
  isAllowed(id: string): boolean {
    const state = this.#known.get(id)?.entry.state
    return state === 'active' || state === 'enrolled'
  }

  /** Whether a machine may be given orders: let in, and neither held nor in dispute. */
  mayAct(id: string): boolean {
    const entry = this.#known.get(id)?.entry
    return entry !== undefined && isLive(entry.state) && heldBecause(entry) === undefined
  }

  /** Which host a machine is. Two machines that were let in and are the same host are a conflict for both. */
  assignment(id: string): Assignment {
    const known = this.#known.get(id)
    if (!known) return { kind: 'none', reason: 'there is no such machine' }
    if (known.own.kind !== 'host') return known.own
    const { host } = known.own
    const others = [...this.#claims.get(host)].filter(other => other !== id).toSorted()
    if (others.length === 0) return known.own
    const names = others.map(other => other.slice(0, 12)).join(', ')
    return { kind: 'conflict', reason: `host ${host} is claimed by another machine too: ${names}` }
  }

  /** The machine of a host; undefined when there is none or several claim it. */
  machineOf(host: string): string | undefined {
    const claims = this.#claims.get(host)
    return claims.size === 1 ? claims.values().next().value : undefined
  }

  /** All machines that were let in and claim this host. */
  claimants(host: string): readonly string[] {
    return [...this.#claims.get(host)]
  }

  /** Hosts that several machines claim. */
  contested(): readonly string[] {
    return this.#claims.shared()
  }

  /** What a machine with these facts would be, by the rules in force. */
  judge(entry: Pick<MachineEntry, 'id' | 'identity'>, facts: Facts): Assignment {
    return this.#assign(entry, judgeRules(this.#rules, facts))
  }

  /** Other machines, let in or waiting, that claim the serial or the UUID of this one. */
  alike({ id, identity, accepted }: MachineEntry): readonly string[] {
    const ids = new Set([...this.#bySerial.get(identity.serial), ...this.#byUuid.get(identity.uuid)])
    return [...ids].filter(other => other !== id && !accepted.includes(other)).toSorted()
  }

  /** What a known machine would be if it were bound to this host by hand. */
  preview(id: string, host: string): Assignment {
    const known = this.#known.get(id)
    if (!known) return { kind: 'none', reason: 'there is no such machine' }
    const hardware = hardwareOf(id, known.entry.identity)
    return assignHost(hardware, this.#targets, host, known.verdicts)
  }

  /** What an operator may bind a machine to, by its own word; nothing else comes of that word. */
  proposal(id: string): Proposal {
    const known = this.#known.get(id)
    if (!known || !isLive(known.entry.state)) return { kind: 'none' }
    const { entry, own } = known
    const { actedAs } = entry
    if (actedAs === '' || own.kind !== 'none') return { kind: 'none' }
    const { revision, hosts } = this.#targets
    // Names that the fleet file does not list are no hosts that anybody binds.
    if (revision > 0 && !hosts.has(actedAs)) return { kind: 'none' }
    return proposeHost({
      actedAs,
      own,
      fault: bindingFault(hosts.get(actedAs)?.binding, hardwareOf(id, entry.identity)),
      claimants: this.claimants(actedAs),
      others: [...this.#said.get(actedAs)].filter(other => other !== id).toSorted(),
    })
  }

  handBinding(machine: string): string | undefined {
    return this.#handOf.get(machine)
  }

  /** Takes over what was committed; what is older than what is known changes nothing. `facts` belong to it when its facts digest is a new one. */
  put(entry: MachineEntry, facts?: Facts): void {
    const before = this.#known.get(entry.id)
    if (before && before.entry.generation > entry.generation) return
    const same = before !== undefined && before.entry.factsDigest === entry.factsDigest
    const verdicts = facts ? judgeRules(this.#rules, facts) : same ? before.verdicts : NO_VERDICTS
    this.#set({ entry, verdicts, own: this.#assign(entry, verdicts) })
  }

  /** Takes over that a machine was forgotten. */
  remove(id: string): void {
    const known = this.#known.get(id)
    if (!known) return
    this.#unlink(known)
    this.#known.delete(id)
  }

  /** Takes over a binding by hand that was committed; undefined: the machine has none any more. */
  bind(machine: string, host: string | undefined): void {
    if (host === undefined) this.#handOf.delete(machine)
    else this.#handOf.set(machine, host)
    const known = this.#known.get(machine)
    if (known) this.#set({ ...known, own: this.#assign(known.entry, known.verdicts) })
  }

  /**
   * Follows a newly published revision. Facts are read again only where the rules of groups changed; meanwhile the
   * directory answers by the targets it had.
   */
  retarget(db: Kysely<Database>, targets: FleetTargets): Promise<void> {
    const done = this.#turn.then(() => this.#retarget(db, targets))
    this.#turn = done.catch(() => {}) // whoever asked hears of it; the next in turn starts from what is there
    return done
  }

  async #retarget(db: Kysely<Database>, targets: FleetTargets): Promise<void> {
    if (targets.revision < this.#targets.revision) return
    const rules = compileRules(targets)
    const judged = new Map<string, { digest: string; verdicts: ReadonlyMap<string, RuleVerdict> }>()
    const missing = () =>
      [...this.#known.values()].filter(
        ({ entry }) => entry.factsDigest !== '' && judged.get(entry.id)?.digest !== entry.factsDigest,
      )
    const keep = rules.fingerprint === this.#rules.fingerprint
    if (!keep && rules.rules.length > 0) {
      // Machines that send new facts meanwhile are judged in a further round.
      for (let round = missing(); round.length > 0; round = missing()) {
        for (let start = 0; start < round.length; start += SLICE) {
          const slice = round.slice(start, start + SLICE).map(({ entry }) => entry)
          const facts = await newestFacts(
            db,
            slice.map(({ id }) => id),
          )
          for (const { id, factsDigest } of slice) {
            const reading = readFacts(facts.get(id) ?? new Uint8Array(), MAX_FACTS_BYTES)
            const usable = reading.kind === 'ok' && reading.digest === factsDigest
            const verdicts = usable ? judgeRules(rules, reading.facts) : NO_VERDICTS
            judged.set(id, { digest: factsDigest, verdicts })
          }
          await setImmediate()
        }
      }
    }
    this.#targets = targets
    this.#rules = rules
    this.#claims.clear()
    this.#said.clear()
    for (const [id, known] of this.#known) {
      const verdicts = keep ? known.verdicts : (judged.get(id)?.verdicts ?? NO_VERDICTS)
      this.#known.set(id, { entry: known.entry, verdicts, own: this.#assign(known.entry, verdicts) })
    }
    for (const known of this.#known.values()) this.#claim(known)
  }

  #assign(
    { id, identity }: Pick<MachineEntry, 'id' | 'identity'>,
    verdicts: ReadonlyMap<string, RuleVerdict>,
  ): Assignment {
    return assignHost(hardwareOf(id, identity), this.#targets, this.#handOf.get(id), verdicts)
  }

  #set(known: Known): void {
    const { id, state } = known.entry
    const before = this.#known.get(id)
    if (before) this.#unlink(before)
    this.#known.set(id, known)
    this.#count(state, 1)
    this.#claim(known)
    if (!isLive(state) && state !== 'pending') return
    this.#bySerial.add(known.entry.identity.serial, id)
    this.#byUuid.add(known.entry.identity.uuid, id)
  }

  #unlink({ entry, own }: Known): void {
    this.#count(entry.state, -1)
    if (own.kind === 'host') this.#claims.delete(own.host, entry.id)
    else this.#said.delete(entry.actedAs, entry.id)
    this.#bySerial.delete(entry.identity.serial, entry.id)
    this.#byUuid.delete(entry.identity.uuid, entry.id)
  }

  #claim({ entry, own }: Known): void {
    if (!isLive(entry.state)) return
    if (own.kind === 'host') this.#claims.add(own.host, entry.id)
    else this.#said.add(entry.actedAs, entry.id)
  }

  #count(state: MachineState, by: number): void {
    this.#counts.set(state, this.count(state) + by)
  }
}
