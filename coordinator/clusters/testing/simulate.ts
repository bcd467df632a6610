import { absorbReport } from '../absorb-report.ts'
import type { planActs } from '../acts/plan-acts.ts'
import { type ClusterRecord, type Distribution, emptyRecord, isJoining } from '../cluster-record.ts'
import type { ClusterSnapshot, MachineView, Observation } from '../cluster-snapshot.ts'
import { DECIDERS, type Decider, decideCluster } from '../decide-cluster.ts'
import { askToLeave } from '../operator-changes.ts'
import { ordersFor } from '../orders-for.ts'
import { describeReason, type Reason } from '../reasons.ts'
import { applyStep } from '../steps.ts'
import { checkSteps, runningChanges } from './check-steps.ts'
import { LostServers } from './lost-servers.ts'
import { Repairs } from './repairs.ts'
import { register, takeOrder, work } from './simulated-node.ts'
import {
  addBox,
  type Box,
  clusterOf,
  hasQuorum,
  makeWorld,
  observe,
  type Sealed,
  type SimulatedVersion,
  send,
  serverVersions,
  TICK_MS,
  VERSIONS,
  type World,
} from './simulated-world.ts'

export interface SimulationOptions {
  readonly seed: number
  readonly servers: number
  readonly workers: number
  readonly distribution: Distribution
  readonly deciders?: Readonly<Record<keyof typeof DECIDERS, Decider>>
  /** The coordinator loses its store at this tick and starts with an empty one. */
  readonly lossAtTick?: number
  /** The coordinator's store is copied at the one tick, and put back at the other; an operator has looked some ticks later. */
  readonly putBack?: { readonly copiedAtTick: number; readonly atTick: number; readonly lookTicks: number }
  /** From this tick on all servers lose their disks at once, as soon as there is a cluster. */
  readonly serversLostAtTick?: number
  /** Datastores are lost alone, machines are held or at work, and servers of before a restore are told to stop; a person mends it. */
  readonly repairs?: boolean
  /** Another planner of acts, where there are repairs. */
  readonly planActs?: typeof planActs
}

export interface SimulationResult {
  readonly violations: readonly string[]
  /** What was not as it should be when all had been quiet for long enough. */
  readonly unsettled: readonly string[]
  readonly record: ClusterRecord
  readonly reinstalled: number
  /** How often a machine that was to leave by itself was said to be dead. */
  readonly saidDead: number
  readonly ticks: number
  /** The cluster was brought back from a snapshot. */
  readonly broughtBack: boolean
  readonly repairs: Pick<Repairs, 'lostDatastores' | 'stoodDown' | 'triedAtOnce' | 'wiped'> | undefined
}

const FAULTY_TICKS = 360
const QUIET_TICKS = 3000

/** The planner's side: what survives a crash is the record and, of what machines said, what they have on their disks. */
interface Centre {
  record: ClusterRecord
  observations: Map<string, Observation>
  relay: Map<string, Sealed>
  upAt: number
  incarnation: number
  readonly rebinds: { at: number; host: string; old: string; next: string }[]
  reinstalled: number
  rebuilding: Reason | undefined
  /** What a copy of the store holds. */
  /** When it was put back to that copy. */
  startedMs: number
  copy: Pick<Centre, 'record' | 'observations'> | undefined
  /** Why nothing is granted: the store is a copy, and no operator has looked. */
  halted: string | undefined
  readonly lost: LostServers
  readonly repairs: Repairs | undefined
}

/** Half an hour of everything that can go wrong, then quiet: says what was violated and what did not settle. */
export function simulate(options: SimulationOptions): SimulationResult {
  const world = makeWorld(options)
  const centre: Centre = {
    record: emptyRecord('home'),
    observations: new Map(),
    relay: new Map(),
    upAt: 0,
    incarnation: 0,
    rebinds: [],
    reinstalled: 0,
    rebuilding: undefined,
    copy: undefined,
    startedMs: 0,
    halted: undefined,
    lost: new LostServers(),
    repairs: options.repairs ? new Repairs(options.planActs) : undefined,
  }
  const deciders = options.deciders ?? DECIDERS
  for (let tick = 0; tick < FAULTY_TICKS; tick += 1) {
    causeTrouble(world, centre)
    centre.repairs?.cause(world, centre)
    if (tick === options.lossAtTick) loseStore(centre)
    if (options.putBack) putBack(world, centre, options.putBack, tick)
    if (tick >= (options.serversLostAtTick ?? FAULTY_TICKS) && centre.rebinds.length === 0)
      centre.lost.lose(world, centre)
    turn(world, centre, deciders, tick)
  }
  world.faulty = false
  for (const box of world.boxes.values()) {
    if (box.upAt >= 0) box.upAt = 0
    box.skewMs = 0
    box.occupiedUntil = 0
  }
  centre.upAt = 0
  let unsettled = ['nothing was tried']
  let tick = FAULTY_TICKS
  for (; tick < FAULTY_TICKS + QUIET_TICKS && unsettled.length > 0; tick += 1) {
    if (tick % 20 === 0) finishUpgrade(world, centre)
    if (tick === FAULTY_TICKS + 100) restartKubelets(world, centre)
    turn(world, centre, deciders, tick)
    if (world.violations.length > 0) break
    unsettled = whatIsUnsettled(world, centre)
  }
  const { record, reinstalled } = centre
  return {
    violations: world.violations,
    unsettled,
    record,
    reinstalled,
    saidDead: world.saidDead,
    ticks: tick,
    broughtBack: centre.lost.state === 'over',
    repairs: centre.repairs,
  }
}

function loseStore(centre: Centre): void {
  centre.record = emptyRecord('home')
  centre.observations.clear()
  centre.relay.clear()
  centre.incarnation += 1
}

function putBack(
  world: World,
  centre: Centre,
  { copiedAtTick, atTick, lookTicks }: NonNullable<SimulationOptions['putBack']>,
  tick: number,
): void {
  if (tick === copiedAtTick)
    centre.copy = { record: centre.record, observations: new Map(centre.observations) }
  if (tick === atTick && centre.copy) {
    centre.record = centre.copy.record
    centre.observations = new Map(centre.copy.observations)
    centre.relay.clear()
    centre.incarnation += 1
    centre.startedMs = world.now
    centre.halted = 'this store is a copy'
  }
  if (tick !== atTick + lookTicks || centre.halted === undefined) return
  centre.halted = undefined
  for (const [id, { data, asOfMs }] of centre.observations)
    if (data.kind !== 'cluster' && asOfMs <= centre.startedMs) centre.observations.delete(id)
}

function turn(
  world: World,
  centre: Centre,
  deciders: Readonly<Record<keyof typeof DECIDERS, Decider>>,
  tick: number,
): void {
  world.now += TICK_MS
  for (const rebind of centre.rebinds.splice(0)) {
    if (rebind.at > world.now && world.faulty) centre.rebinds.push(rebind)
    else rebindHost(world, rebind)
  }
  for (const box of world.boxes.values()) {
    if (!box.up && !box.gone && box.upAt <= world.now && box.upAt >= 0) {
      box.up = true
      register(world, box)
    }
    if (box.up) work(world, box)
  }
  deliver(world, centre)
  if (runningChanges(world).length > 1)
    world.violations.push(`two changes: ${runningChanges(world).join(', ')}`)
  if (centre.upAt > world.now) return
  centre.lost.follow(world, centre, snapshotOf(world, centre))
  const snapshot = snapshotOf(world, centre)
  const { steps, waiting } = decideCluster(snapshot, world.now, deciders)
  checkSteps(world, centre.record, steps)
  for (const step of steps) centre.record = applyStep(centre.record, step, world.now)
  centre.repairs?.follow(world, centre, snapshot, waiting)
  for (const box of world.boxes.values()) {
    if (!box.up || box.gone) continue
    // Every fifteen seconds, as after each start of a session.
    if (steps.length > 0 || tick % 3 === 0) {
      for (const intent of ordersFor(centre.record, box.id)) {
        if (intent.kind === 'found' && centre.halted !== undefined) continue
        const sealed = centre.relay.get(intent.operation)
        send(world, { at: 0, to: box.id, kind: 'order', intent, sealed })
      }
    }
    if (tick % 5 === 0) {
      const { incarnation } = centre
      send(world, { at: 0, to: box.id, kind: 'ask', asked: world.now, incarnation })
    }
  }
}

function deliver(world: World, centre: Centre): void {
  const due = world.messages.filter(({ at }) => at <= world.now)
  const later = world.messages.filter(({ at }) => at > world.now)
  world.messages.splice(0, world.messages.length, ...later)
  for (const message of due) {
    if (message.kind === 'report' || message.kind === 'state') {
      const box = world.boxes.get(message.from)
      // A machine that was sent away is not heard.
      if (centre.upAt > world.now || !box || box.gone) continue
      if (message.kind === 'state') {
        const known = centre.observations.get(message.from)
        if (message.incarnation !== centre.incarnation || (known && known.asOfMs > message.asked)) continue
        centre.observations.set(message.from, { asOfMs: message.asked, ...message.state })
        continue
      }
      const { operation, report, sealed } = message.report
      const { record, acknowledged } = absorbReport(centre.record, message.from, operation, report, world.now)
      centre.record = record
      const join = record.joins.find(each => each.operation === operation)
      if (sealed && join && join.end === undefined) centre.relay.set(operation, sealed)
      if (acknowledged) send(world, { at: 0, to: message.from, kind: 'ack', operation, report: report.kind })
      continue
    }
    const box = world.boxes.get(message.to)
    if (!box?.up) continue
    if (message.kind === 'order') takeOrder(world, box, message.intent, message.sealed)
    else if (message.kind === 'ack') box.outbox.delete(`${message.operation} ${message.report}`)
    else {
      const { asked, incarnation } = message
      send(world, {
        at: 0,
        to: '',
        from: box.id,
        kind: 'state',
        asked,
        incarnation,
        state: observe(world, box),
      })
    }
  }
}

function snapshotOf(world: World, centre: Centre): ClusterSnapshot {
  const machines = new Map<string, MachineView>()
  for (const { id, up, gone, sinceMs, occupiedUntil } of world.boxes.values()) {
    const observation = centre.observations.get(id)
    machines.set(id, {
      connected: up && !gone,
      gone,
      sinceMs,
      occupied: occupiedUntil > world.now,
      observation,
    })
  }
  const { record, rebuilding, halted } = centre
  return { distribution: world.distribution, hosts: world.hosts, record, machines, rebuilding, halted }
}

function causeTrouble(world: World, centre: Centre): void {
  const { random } = world
  for (const box of world.boxes.values()) {
    if (box.up && random.chance(0.006)) {
      box.up = false
      box.downSince = world.now
      box.upAt = world.now + random.below(300_000)
    }
    if (random.chance(0.002)) box.skewMs = random.chance(0.5) ? 0 : (random.next() - 0.5) * 2_400_000
  }
  if (centre.upAt <= world.now && random.chance(0.02)) {
    centre.upAt = world.now + random.below(60_000)
    centre.incarnation += 1
    centre.relay.clear()
    // Views are lost with the process; what was on a machine's disk is kept.
    for (const [id, seen] of centre.observations) centre.observations.set(id, { ...seen, view: undefined })
  }
  for (const box of world.boxes.values()) changeVersion(world, centre, box)
  if (random.chance(0.02)) reinstall(world, centre)
  sayDead(world, centre)
  if (random.chance(0.004) && centre.record.leaves.length + centre.record.left.size === 0) {
    const one = random.pick(world.hosts)
    const voters = [...world.clusters.values()].flatMap(({ members }) => members).length
    if (
      one &&
      (one.role === 'worker' || voters >= 3) &&
      world.boxes.get(one.machine)?.data.kind === 'cluster'
    ) {
      centre.record = askToLeave(
        centre.record,
        {
          host: one.host,
          machine: one.machine,
          server: one.role !== 'worker',
          dead: false,
          signed: undefined,
        },
        `leave-${one.host}-${world.now}`,
      )
    }
  }
}

/** Systems are switched, servers are moved to the newer Kubernetes, and workers once all servers have gone. */
function changeVersion(world: World, { record }: Centre, box: Box): void {
  const { random } = world
  // No rollout touches what is joining.
  if (isJoining(record, box.id)) return
  const [older, newer] = VERSIONS
  if (!box.up || box.gone || box.installed === newer) {
    if (box.up && box.data.kind === 'none' && random.chance(0.004)) switchTo(world, box, older)
    return
  }
  if (box.data.kind === 'none' && random.chance(0.02)) switchTo(world, box, newer)
  const cluster = clusterOf(world, box)
  if (!cluster || !random.chance(0.006)) return
  const isMember = cluster.members.some(({ machine }) => machine === box.id)
  if (!isMember && serverVersions(world, cluster).some(version => version !== newer)) return
  if (!isMember && runningChanges(world).length > 0) return
  move(box, newer)
}

function switchTo(world: World, box: Box, version: SimulatedVersion): void {
  box.installed = version
  // What was asked before is of the system before; also what is on its way.
  box.sinceMs = world.now + 1
}

function move(box: Box, version: SimulatedVersion): void {
  box.installed = version
  box.runs = version
}

/** In quiet times somebody brings all machines to the newer Kubernetes, the servers first. */
function finishUpgrade(world: World, { record }: Centre): void {
  const [, newer] = VERSIONS
  const behind = [...world.boxes.values()].filter(box => box.up && !box.gone && box.installed !== newer)
  const servers = behind.filter(box =>
    [...world.clusters.values()].some(({ members }) =>
      members.some(({ machine, learner }) => machine === box.id && !learner && box.data.kind === 'cluster'),
    ),
  )
  const [server] = servers
  if (server) move(server, newer)
  else
    for (const box of behind)
      if (!clusterOf(world, box) && !isJoining(record, box.id)) switchTo(world, box, newer)
}

/** What is to leave is often what is about to fail; who waits for a leave that cannot end says that its machine is gone. */
function sayDead(world: World, centre: Centre): void {
  const { random, now } = world
  for (const { host, machine, server, dead, attempt } of centre.record.leaves) {
    const box = world.boxes.get(machine)
    if (!box || dead || server || attempt?.executor !== machine) continue
    if (box.up && random.chance(0.2)) {
      box.up = false
      box.downSince = now
      box.upAt = now + random.below(900_000)
    }
    if (box.up || !random.chance(0.1)) continue
    // The machine may come back after all, and then it is not taken out as dead: the order ends.
    const signed = { envelope: new Uint8Array(), untilMs: now + 600_000 }
    const asked = { host, machine, server, dead: true, signed }
    centre.record = askToLeave(centre.record, asked, `dead-${host}-${now}`)
    world.saidDead += 1
  }
}

/** A machine loses its disk: it comes back as a new machine under its name, or as itself with an empty disk. */
function reinstall(world: World, centre: Centre): void {
  const wanted = world.random.pick(world.hosts)
  const box = wanted && world.boxes.get(wanted.machine)
  // Of lost servers somebody takes care.
  const areLost = !['before', 'over'].includes(centre.lost.state) || box?.fork !== undefined
  if (!wanted || !box || areLost || box.gone || centre.rebinds.some(({ host }) => host === wanted.host))
    return
  const cluster = clusterOf(world, box)
  const voters = cluster?.members.filter(({ learner }) => !learner) ?? []
  const own = voters.find(({ machine }) => machine === box.id)
  if (cluster && own) {
    // What no planner can mend is not caused: the disks of most voters are lost.
    const intact = voters.filter(
      each => each !== own && hasData(world, each.machine, cluster.authority),
    ).length
    const isSecret = centre.record.founding?.state !== 'founded'
    if (intact * 2 <= voters.length && !isSecret) return
    if (isSecret) {
      world.clusters.delete(cluster.authority)
      // It dies before anybody hears of it; what nobody could mend is a founder that was heard of and died alone.
      const heard = world.messages.filter(each => !('from' in each) || each.from !== box.id)
      world.messages.splice(0, world.messages.length, ...heard)
    }
  }
  centre.reinstalled += 1
  box.wipedAt = world.now
  box.data = { kind: 'none' }
  for (const job of box.journal.values()) if (job.state === 'running') job.state = 'failed'
  if (world.random.chance(0.3) && centre.record.founding?.machine !== box.id) {
    for (const [operation, job] of box.journal) {
      if (job.state !== 'failed' || job.intent.kind === 'mint') continue
      const report = { kind: 'ended', done: false, authority: '' } as const
      box.outbox.set(`${operation} ended`, { operation, report, sealed: undefined })
    }
    return
  }
  box.up = false
  box.downSince = world.now
  box.upAt = -1
  const [name = '', count = '1'] = box.id.split('#')
  const next = `${name}#${Number(count) + 1}`
  addBox(world, box.host, next)
  centre.rebinds.push({ at: world.now + world.random.below(120_000), host: box.host, old: box.id, next })
}

/** An operator says that the old machine is gone, and which one has its place. */
function rebindHost(world: World, { host, old, next }: { host: string; old: string; next: string }): void {
  const box = world.boxes.get(old)
  if (box) box.gone = true
  for (const each of world.hosts) if (each.host === host) each.machine = next
}

/** Somebody restarts the kubelets whose Nodes were taken away while they ran. */
function restartKubelets(world: World, { record }: Centre): void {
  for (const { host, machine } of world.hosts) {
    const box = world.boxes.get(machine)
    if (box?.up && record.left.get(host) !== machine) register(world, box)
  }
}

function hasData(world: World, machine: string, authority: string): boolean {
  const data = world.boxes.get(machine)?.data
  return data?.kind === 'cluster' && data.authority === authority
}

function whatIsUnsettled(world: World, centre: Centre): string[] {
  const { record } = centre
  const problems: string[] = []
  const [cluster, ...others] = [...world.clusters.values()]
  if (!cluster || others.length > 0) return [`${world.clusters.size} clusters`]
  if (!hasQuorum(world, cluster)) return ['the datastore has no quorum']
  const { waiting } = decideCluster(snapshotOf(world, centre), world.now)
  for (const { host, machine, role } of world.hosts) {
    const box = world.boxes.get(machine)
    if (centre.repairs && (box?.data.kind === 'lost' || box?.fork)) {
      const shown = waiting.filter(each => each.host === host).map(r => describeReason(r.reason))
      problems.push(`${host} (${machine}) is not mended: ${shown.join('; ')}`)
    }
    if (record.left.get(host) === machine) continue
    const member = cluster.members.find(each => each.machine === machine)
    const votes = role === 'worker' || (member !== undefined && !member.learner)
    const node = role === 'server' || cluster.nodes.get(host)?.machine === machine
    if (hasData(world, machine, cluster.authority) && votes && node) continue
    const reasons = waiting.filter(each => each.host === host || each.host === '')
    problems.push(
      `${host} (${machine}) has not joined: ${reasons.map(r => describeReason(r.reason)).join('; ')}`,
    )
  }
  for (const [operation, { works, expiresMs }] of cluster.tokens)
    if (works && world.now < expiresMs) problems.push(`token ${operation} still works`)
  if (record.joins.length + record.clears.length + record.leaves.length > 0) {
    problems.push(
      `under way: ${[...record.joins, ...record.clears, ...record.leaves].map(({ host }) => host).join(', ')}`,
    )
  }
  return problems
}
