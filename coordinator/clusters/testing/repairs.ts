import { planActs } from '../acts/plan-acts.ts'
import { type ClusterRecord, isServer } from '../cluster-record.ts'
import { type ClusterSnapshot, newestView } from '../cluster-snapshot.ts'
import { askToLeave, letReturn, mayReturn } from '../operator-changes.ts'
import type { Reason, Waiting } from '../reasons.ts'
import { noteSuccess } from '../steps.ts'
import { type Box, clusterOf, hasQuorum, type World } from './simulated-world.ts'

export interface RepairCentre {
  record: ClusterRecord
}

/** Where the datastore of made-up servers lies. */
const PATH = '/var/lib/etcd'

/**
 * Troubles that a person mends: datastores that are lost alone, machines that are held or at work for a while, and servers that come
 * back with what there was before a restore, which are told to stop. The operator does what is shown of each, and nothing else.
 */
export class Repairs {
  lostDatastores = 0
  stoodDown = 0
  wiped = 0
  triedAtOnce = 0
  readonly #told = new Set<string>()
  readonly #planActs: typeof planActs
  /** When each wipe that was ordered comes to its machine. */
  readonly #wipes = new Map<Box, number>()

  constructor(plan: typeof planActs = planActs) {
    this.#planActs = plan
  }

  cause(world: World, { record }: RepairCentre): void {
    const { random, now } = world
    for (const box of world.boxes.values()) {
      if (box.occupiedUntil > now || !random.chance(0.003)) continue
      box.occupiedUntil = now + random.below(300_000)
      box.held = random.chance(0.5)
    }
    if (record.founding?.state === 'founded' && random.chance(0.05)) this.#loseDatastore(world)
  }

  /** What no planner and no person can mend is not caused: the datastores of most voters are lost. */
  #loseDatastore(world: World): void {
    const wanted = world.random.pick(world.hosts.filter(({ role }) => isServer(role)))
    const box = world.boxes.get(wanted?.machine ?? '')
    const cluster = box && clusterOf(world, box)
    if (!box || box.gone || box.fork || box.data.kind !== 'cluster' || !cluster) return
    const voters = cluster.members.filter(({ learner }) => !learner)
    if (!voters.some(({ machine }) => machine === box.id)) return
    const intact = voters.filter(({ machine }) => {
      const other = world.boxes.get(machine)
      return machine !== box.id && other?.data.kind === 'cluster' && !other.gone && !other.fork
    }).length
    if (intact * 2 <= voters.length) return
    const { authority, distribution } = box.data
    box.data = { kind: 'lost', authority, distribution, path: PATH }
    box.wipedAt = world.now
    this.lostDatastores += 1
    breakOff(box)
  }

  /** A tick of what the coordinator tells servers of before, and of what the operator does by what is shown. */
  follow(world: World, centre: RepairCentre, snapshot: ClusterSnapshot, waiting: readonly Waiting[]): void {
    this.#standDown(world, snapshot)
    for (const { host, reason } of waiting) {
      // Nobody who looks waits for a clock; what is to be looked into takes longer.
      const often = reason.gate === 'backing-off' ? 0.25 : world.faulty ? 0.02 : 0.2
      if (world.random.chance(often)) this.#obeyWhatIsShown(world, centre, snapshot, host, reason)
    }
    for (const [box, atMs] of this.#wipes)
      if (world.now >= atMs && box.up && box.occupiedUntil <= world.now) this.#wipe(world, centre, box)
  }

  #standDown(world: World, snapshot: ClusterSnapshot): void {
    const steps = this.#planActs(
      { snapshot, waiting: [], open: [], adopted: new Set(), stoodDown: this.#told, manifests: undefined },
      world.now,
    )
    for (const step of steps) {
      if (step.kind !== 'new' || step.act !== 'stand-down') continue
      const box = world.boxes.get(step.machine)
      const cluster = box?.data.kind === 'cluster' ? world.clusters.get(box.data.authority) : undefined
      if (!box || !cluster) continue
      if (!box.fork || cluster.members.some(({ machine }) => machine === box.id))
        world.violations.push(`stands down a member: ${box.id}`)
      // Lost on its way, or refused until another server lists members without it: it is told again.
      if (!box.up || !hasQuorum(world, cluster) || !world.random.chance(0.3)) continue
      this.#told.add(step.request)
      box.stoodDown = true
      this.stoodDown += 1
    }
  }

  #obeyWhatIsShown(
    world: World,
    centre: RepairCentre,
    snapshot: ClusterSnapshot,
    host: string,
    reason: Reason,
  ): void {
    const wanted = world.hosts.find(each => each.host === host)
    const box = world.boxes.get(wanted?.machine ?? '')
    if (!wanted || !box || this.#wipes.has(box)) return
    const { record } = centre
    if (reason.gate === 'backing-off' && reason.host !== undefined) {
      if (!mayReturn(record, host, box.id, world.now)) return
      centre.record = letReturn(record, host, box.id)
      this.triedAtOnce += 1
    } else if (reason.gate === 'lost-datastore' && reason.standing === 'member') {
      const signed = { envelope: new Uint8Array(), untilMs: world.now + 7 * 86_400_000 }
      const asked = { host, machine: box.id, server: true, dead: true, signed }
      centre.record = askToLeave(record, asked, `repair-${host}-${world.now}`)
    } else if (
      (reason.gate === 'lost-datastore' && reason.standing === 'out') ||
      reason.gate === 'set-back' ||
      reason.gate === 'not-a-member'
    ) {
      const reading = newestView(snapshot, world.now)
      if (reading.kind === 'unknown' || reading.view.members.some(({ name }) => name === host)) return
      this.#wipes.set(box, world.now + world.random.below(60_000))
    }
  }

  /** By an operator's signed order; it joins anew by itself. */
  #wipe(world: World, centre: RepairCentre, box: Box): void {
    this.#wipes.delete(box)
    const { data } = box
    if (box.gone || (data.kind !== 'lost' && data.kind !== 'cluster')) return
    const cluster = box.fork ? undefined : world.clusters.get(data.authority)
    if (cluster?.members.some(({ machine }) => machine === box.id)) {
      world.violations.push(`wipes a member: ${box.id}`)
      return
    }
    // A wipe runs alone: what was before it ran out of time.
    breakOff(box)
    box.data = { kind: 'none' }
    box.fork = undefined
    box.stoodDown = false
    this.wiped += 1
    const record = noteSuccess(centre.record, box.id, world.now)
    centre.record = record.left.get(box.host) === box.id ? letReturn(record, box.host, box.id) : record
  }
}

/** What a machine was doing comes to nothing. */
function breakOff(box: Box): void {
  for (const [operation, job] of box.journal) {
    if (job.state !== 'running') continue
    job.state = 'failed'
    const report = { kind: 'ended', done: false, authority: '' } as const
    box.outbox.set(`${operation} ended`, { operation, report, sealed: undefined })
  }
}
