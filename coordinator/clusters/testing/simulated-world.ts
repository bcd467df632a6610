import type { StepReport } from '../absorb-report.ts'
import type { Distribution, MemberRole } from '../cluster-record.ts'
import type { NodeData, Observation } from '../cluster-snapshot.ts'
import type { ClusterIntent } from '../orders-for.ts'
import { SeededRandom } from './seeded-random.ts'

/** The truth that no planner sees: what is on the disks, who votes, which tokens work. All of it is made up. */
export interface World {
  readonly random: SeededRandom
  readonly distribution: Distribution
  readonly hosts: { host: string; role: MemberRole; machine: string }[]
  readonly boxes: Map<string, Box>
  readonly clusters: Map<string, Cluster>
  readonly messages: Message[]
  now: number
  /** Lost, doubled and late messages, failing steps; none in the quiet time at the end. */
  faulty: boolean
  foundings: number
  /** How often a machine that was to leave by itself was said to be dead. */
  saidDead: number
  /** What must never be, as it happened. */
  readonly violations: string[]
}

export interface Box {
  readonly id: string
  readonly host: string
  up: boolean
  upAt: number
  /** When it last went down; how long it has been ill. */
  downSince: number
  /** When its disk was lost while it ran. */
  wipedAt: number
  /** An operator sent it away. */
  gone: boolean
  data: NodeData
  /** What its data is of, where that is another datastore than the cluster's: it was off when that was set back. */
  fork: Cluster | undefined
  /** It was told that its data is from before a restore, and does not start any more. */
  stoodDown: boolean
  /** Until then it is held, or its system is being changed. */
  occupiedUntil: number
  /** Of the two: it refuses what is new, where it only comes to it later otherwise. */
  held: boolean
  skewMs: number
  /** The Kubernetes that is on it, and the one that runs since it founded, joined or was moved. */
  installed: SimulatedVersion
  runs: SimulatedVersion
  /** When its session began, as far as it matters: a switch of its system begins one. */
  sinceMs: number
  /** What its journal knows of each operation. */
  readonly journal: Map<string, Work>
  /** Reports that nobody has acknowledged. */
  readonly outbox: Map<string, Report>
}

export interface Work {
  readonly intent: ClusterIntent
  readonly sealed: Sealed | undefined
  state: 'running' | 'done' | 'failed' | 'barred'
  /** Ticks of work left in this stage. */
  left: number
  stage: number
}

/** Stands for a sealed secret: what it is bound to, without the cryptography. */
export interface Sealed {
  readonly operation: string
  readonly recipient: string
  readonly role: MemberRole
  readonly authority: string
  readonly expiresMs: number
  /** The oldest server that its minter saw. */
  readonly version: SimulatedVersion
}

export interface Report {
  readonly operation: string
  readonly report: StepReport
  readonly sealed: Sealed | undefined
}

export interface Cluster {
  readonly authority: string
  readonly members: { name: string; machine: string; learner: boolean }[]
  readonly nodes: Map<string, { uid: string; machine: string }>
  readonly tokens: Map<string, { recipient: string; role: MemberRole; works: boolean; expiresMs: number }>
}

export type Message =
  | { at: number; to: string; kind: 'order'; intent: ClusterIntent; sealed: Sealed | undefined }
  | { at: number; to: string; kind: 'ask'; asked: number; incarnation: number }
  | { at: number; to: string; kind: 'ack'; operation: string; report: string }
  | { at: number; to: ''; from: string; kind: 'report'; report: Report }
  | {
      at: number
      to: ''
      from: string
      kind: 'state'
      asked: number
      incarnation: number
      state: Omit<Observation, 'asOfMs'>
    }

export const TICK_MS = 5000
export const VERSIONS = ['1.34.3', '1.35.4'] as const
export type SimulatedVersion = (typeof VERSIONS)[number]

export function makeWorld(options: {
  readonly seed: number
  readonly servers: number
  readonly workers: number
  readonly distribution: Distribution
}): World {
  const random = new SeededRandom(options.seed)
  const hosts = Array.from({ length: options.servers + options.workers }, (_, index) => {
    const server = index < options.servers
    const host = `${server ? 's' : 'w'}${index}`
    const role: MemberRole = server ? (random.chance(0.5) ? 'server' : 'server+worker') : 'worker'
    return { host, role, machine: `${host}#1` }
  })
  const world: World = {
    random,
    distribution: options.distribution,
    hosts,
    boxes: new Map(),
    clusters: new Map(),
    messages: [],
    now: 1_000_000_000_000,
    faulty: true,
    foundings: 0,
    saidDead: 0,
    violations: [],
  }
  for (const { host, machine } of hosts) addBox(world, host, machine)
  return world
}

export function addBox(world: World, host: string, id: string): Box {
  const box: Box = {
    id,
    host,
    up: true,
    upAt: 0,
    downSince: 0,
    wipedAt: 0,
    gone: false,
    data: { kind: 'none' },
    fork: undefined,
    stoodDown: false,
    occupiedUntil: 0,
    held: false,
    skewMs: 0,
    installed: VERSIONS[0],
    runs: VERSIONS[0],
    sinceMs: 0,
    journal: new Map(),
    outbox: new Map(),
  }
  world.boxes.set(id, box)
  return box
}

/** Puts a message on its way; while times are bad it may be lost, doubled or late. */
export function send(world: World, message: Message): void {
  const { random, faulty } = world
  const copies = faulty && random.chance(0.05) ? 0 : faulty && random.chance(0.05) ? 2 : 1
  for (let copy = 0; copy < copies; copy += 1) {
    world.messages.push({ ...message, at: world.now + random.below(faulty ? 25_000 : 2000) })
  }
}

export function clusterOf(world: World, box: Box): Cluster | undefined {
  return box.data.kind === 'cluster' ? (box.fork ?? world.clusters.get(box.data.authority)) : undefined
}

/** The member's own machine runs and has the data. A learner has data before its join is finished. */
export function isHealthy(world: World, cluster: Cluster, member: Cluster['members'][number]): boolean {
  const box = world.boxes.get(member.machine)
  if (!box?.up || box.stoodDown) return false
  if (box.data.kind === 'cluster') return clusterOf(world, box) === cluster
  return member.learner && box.data.kind === 'unfinished'
}

export function hasQuorum(world: World, cluster: Cluster, without = ''): boolean {
  const voters = cluster.members.filter(member => !member.learner && member.name !== without)
  const healthy = voters.filter(member => isHealthy(world, cluster, member)).length
  return voters.length > 0 && healthy * 2 > voters.length
}

/** What a machine answers when it is asked now. */
export function observe(world: World, box: Box): Omit<Observation, 'asOfMs'> {
  const cluster = clusterOf(world, box)
  const member = cluster?.members.find(({ machine }) => machine === box.id)
  const view =
    cluster && member && !member.learner && !box.stoodDown
      ? {
          ready: hasQuorum(world, cluster),
          members: cluster.members.map(each => ({
            name: each.name,
            learner: each.learner,
            healthy: isHealthy(world, cluster, each),
          })),
          nodes: [...cluster.nodes].map(([name, { uid, machine }]) => ({
            name,
            uid,
            ready: isReady(world, cluster, machine),
            version: world.boxes.get(machine)?.runs ?? '',
          })),
        }
      : undefined
  const { data, installed, runs } = box
  return { part: 'home', data, version: cluster ? runs : undefined, installed, view }
}

/** Servers of a cluster that are members, by what runs on them. */
export function serverVersions(world: World, { members }: Cluster): readonly SimulatedVersion[] {
  return members.flatMap(({ machine, learner }) => {
    const box = world.boxes.get(machine)
    return learner || !box || box.gone || box.data.kind !== 'cluster' ? [] : [box.runs]
  })
}

function isReady(world: World, cluster: Cluster, machine: string): boolean {
  const box = world.boxes.get(machine)
  if (!box) return false
  // A Node stays Ready for 40 s after its machine is gone.
  if (!box.up || box.gone) return world.now - box.downSince < 40_000
  return clusterOf(world, box) === cluster
}
