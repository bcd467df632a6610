import { whyNotRestore } from '../acts/judge-restore.ts'
import { authorityOf, type ClusterRecord, isServer } from '../cluster-record.ts'
import type { ClusterSnapshot } from '../cluster-snapshot.ts'
import type { Reason } from '../reasons.ts'
import { setBack } from '../set-back.ts'
import { addBox, type Box, type Cluster, type World } from './simulated-world.ts'

/** As much of the planner's side as an operator and an act change. */
export interface LossCentre {
  record: ClusterRecord
  rebuilding: Reason | undefined
}

const OPERATION = 'act-restore'

/**
 * All servers are lost at once. An operator has one installed anew, carries a snapshot there and asks for the restore until it is
 * granted; of the others some are installed anew, and some come back later with what they had.
 */
export class LostServers {
  state: 'before' | 'lost' | 'restoring' | 'restored' | 'over' = 'before'
  #target: Box | undefined
  #dueMs = 0
  /** Those that come back with old data, and when somebody has each installed anew. */
  readonly #old = new Map<Box, number>()

  /** Only of a cluster that is known, and whose servers are the hosts' own. */
  lose(world: World, { record }: LossCentre): void {
    const authority = authorityOf(record)
    const servers = world.hosts.filter(({ role }) => isServer(role))
    if (this.state !== 'before' || authority === undefined || !world.clusters.has(authority)) return
    const target = world.random.pick(servers)
    if (!target) return
    for (const wanted of servers) {
      const box = world.boxes.get(wanted.machine)
      if (!box) continue
      box.up = false
      box.downSince = world.now
      box.upAt = -1
      if (wanted !== target && world.random.chance(0.5)) continue
      const next = anew(world, box)
      wanted.machine = next.id
      if (wanted === target) this.#target = next
    }
    this.state = 'lost'
  }

  /** A tick of what the operator, the machine and the act do. */
  follow(world: World, centre: LossCentre, snapshot: ClusterSnapshot): void {
    const target = this.#target
    const authority = authorityOf(centre.record)
    if (!target || authority === undefined) return
    const { id: machine, host } = target
    if (this.state === 'lost') {
      if (!target.up || whyNotRestore(snapshot, { host, machine }, world.now).length > 0) return
      target.data = { kind: 'unfinished', operation: OPERATION }
      centre.rebuilding = { gate: 'server-change', host, operation: OPERATION }
      this.#dueMs = world.now + world.random.below(90_000)
      this.state = 'restoring'
    } else if (this.state === 'restoring' && target.up && world.now >= this.#dueMs) {
      this.#restore(world, target, authority)
      this.#dueMs = world.now + world.random.below(90_000)
      this.state = 'restored'
    } else if (this.state === 'restored' && world.now >= this.#dueMs) {
      centre.record = setBack(centre.record, { machine, host, operation: OPERATION }, authority, world.now)
      centre.rebuilding = undefined
      this.state = 'over'
    } else if (this.state === 'over') this.#installOld(world)
  }

  /** The datastore is that of the snapshot, on this machine alone; what others have of it is another one from here on. */
  #restore(world: World, target: Box, authority: string): void {
    const before = world.clusters.get(authority)
    if (!before) return
    const { host } = target
    const nodes = new Map(before.nodes)
    const role = world.hosts.find(each => each.host === host)?.role
    if (role !== 'server') nodes.set(host, { uid: `u-${target.id}`, machine: target.id })
    const members = [{ name: host, machine: target.id, learner: false }]
    const cluster: Cluster = { authority, members, nodes, tokens: new Map() }
    for (const box of world.boxes.values()) {
      if (box.data.kind !== 'cluster' || !box.data.server || box.data.authority !== authority) continue
      box.fork = before
      if (box.gone) continue
      box.upAt = world.now + world.random.below(600_000)
      this.#old.set(box, box.upAt + 600_000)
    }
    // A server that was about to join comes back, too.
    for (const box of world.boxes.values()) if (!box.gone && !box.up && box.upAt < 0) box.upAt = world.now
    world.clusters.set(authority, cluster)
    target.data = { kind: 'cluster', authority, distribution: world.distribution, server: true }
    target.runs = target.installed
  }

  #installOld(world: World): void {
    for (const [box, atMs] of this.#old) {
      if (world.now < atMs) continue
      this.#old.delete(box)
      // It was wiped meanwhile, and joins anew as it is.
      if (!box.fork) continue
      const wanted = world.hosts.find(({ machine }) => machine === box.id)
      if (wanted) wanted.machine = anew(world, box).id
    }
  }
}

/** The operator sends a machine away, and has another one in its place. */
function anew(world: World, box: Box): Box {
  box.gone = true
  const [name = '', count = '1'] = box.id.split('#')
  return addBox(world, box.host, `${name}#${Number(count) + 1}`)
}
