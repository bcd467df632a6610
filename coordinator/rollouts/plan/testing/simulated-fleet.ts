import type { MaintenanceWindow } from '../../../../shared/rollout/maintenance-window.ts'
import { SeededRandom } from '../../../clusters/testing/seeded-random.ts'
import type { Disturbance, NodeEvidence } from '../new-evidence.ts'
import type { RolloutRecord, StepKind } from '../rollout-record.ts'
import type { GatesView, PlanView } from '../rollout-snapshot.ts'

/** The truth that no planner sees: what runs where, what is cordoned, what is being done. All of it is made up. */
export interface Fleet {
  readonly random: SeededRandom
  /** Of its own: when kubelets renew their leases changes nothing of what else happens. */
  readonly kubelets: SeededRandom
  readonly boxes: ReadonlyMap<string, Box>
  /** By cluster, in order of their names. */
  readonly clusters: ReadonlyMap<string, readonly Box[]>
  /** By id: what was asked of nodes and of their clusters. */
  readonly jobs: Map<string, Job>
  nowMs: number
  /** Of the newest row of a grant. */
  grants: number
  /** Crashes, partitions, failures; none in the quiet time at the end. */
  faulty: boolean
  rollouts: RolloutRecord[]
  /** How those that are over ended. */
  readonly over: Map<string, Over>
  /** By cluster who leads its datastore; missing: nobody. */
  readonly leaders: Map<string, string>
  /** What was last seen of each cluster, and when. */
  readonly seen: Map<string, SeenCluster>
  /** When each machine was last heard of. */
  readonly heardMs: Map<string, number>
  /** What machines said of their gates when they were last asked. */
  readonly gateAnswers: Map<string, GatesView>
  readonly askGates: boolean
  /** By cluster: its Jobs were asked then, and answer at another time. */
  readonly jobsAsked: Map<string, { readonly atMs: number; readonly dueMs: number }>
  /** What Jobs said in clusters when they were last asked. */
  readonly jobAnswers: Map<string, GatesView>
  /** By cluster: until when its Jobs fail. */
  readonly jobsIllUntilMs: Map<string, number>
  readonly askJobs: boolean
  readonly mishaps: boolean
  readonly retrying: number
  upAtMs: number
  /** Until then nobody has looked at clusters since the coordinator started. */
  blindUntilMs: number
  readonly violations: string[]
  /** Clusters whose datastore is lost until it is restored. */
  readonly lost: Set<string>
  /** What happened, so that a world in which nothing does is seen. */
  readonly counts: Record<Count, number>
}

export type Count =
  | (
      | 'crashes'
      | 'restarts'
      | 'lost'
      | 'acts'
      | 'failures'
      | 'handedBack'
      | 'overridden'
      | 'caughtUp'
      | 'begun'
    )
  | ('restart' | 'rotate' | 'leave' | 'restore' | 'takenBack' | 'cancelled' | 'pastBudget')
  | ('unwilling' | 'triedAgain')

/** A rollout that is over. */
export interface Over {
  readonly state: string
  readonly reason: string
  readonly record: RolloutRecord
  /** By its failure policy it is to be taken back. */
  readonly revert: boolean
  /** Hosts that were locked when it ended, and neither away, pinned nor held, and had a target. */
  readonly onlyLocked: ReadonlySet<string>
}

export interface Box {
  readonly host: string
  readonly cluster: string | undefined
  readonly server: boolean
  readonly rack: string
  readonly windows: readonly MaintenanceWindow[]
  /** Says that it did what it was told, and did not. */
  readonly lies: boolean
  /** What its owner lets be ordered there. */
  readonly allowed: readonly string[]
  readonly slowness: number
  /** Before that no machine is this host. */
  readonly enrolsAtMs: number
  /** It is a node of its cluster. */
  joined: boolean
  /** When it becomes one. */
  readonly joinsAtMs: number
  /** What it runs. */
  revision: number
  /** By rollout: what it ran before that moved it. */
  readonly before: Map<string, number>
  /** How often it has booted. */
  boots: number
  up: boolean
  upAtMs: number
  cutUntilMs: number
  /** Its member of the datastore is not healthy, whatever the node is. */
  illUntilMs: number
  /** A gate of the fleet directory is not healthy on it. */
  gatesIllUntilMs: number
  /** Since when its session lasts; undefined: it has none. */
  sessionMs: number | undefined
  version: string
  /** Its node is Ready from then on. */
  readyAtMs: number
  /** How far its own clock is from the coordinator's. */
  readonly clockMs: number
  /** When its kubelet last renewed its lease, when it was last stopped by an act, and when the one that runs was started. */
  renewedMs: number
  stoppedMs: number
  kubeletMs: number
  /** It never becomes Ready again. */
  broken: boolean
  cordoned: boolean
  drained: boolean
  lock: string | undefined
  pin: { readonly revision: number; readonly why: string; readonly untilMs: number } | undefined
  readonly quarantined: Set<number>
  /** The act that is being done to it: it is being switched or booted. */
  acting: string | undefined
  /** When a planner was last shown that it is not well. */
  shownUnwellMs: number
}

export interface Job {
  readonly id: string
  readonly host: string
  readonly step: StepKind
  readonly rollout: string
  readonly plan: PlanView | undefined
  /** Nobody is told when it stopped the kubelet. */
  readonly silent: boolean
  /** When it did, by the node's own clock. */
  disturbed: Disturbance | undefined
  readonly end: 'done' | 'failed' | 'retry'
  readonly untouched: boolean
  leftMs: number
  state: 'open' | 'done' | 'failed' | 'retry'
  begun: boolean
}

export interface SeenCluster {
  readonly asOfMs: number
  /** As the API server has it: for a while also of a kubelet that is no more. */
  readonly ready: ReadonlyMap<string, boolean>
  readonly evidence: ReadonlyMap<string, NodeEvidence>
  readonly versions: ReadonlyMap<string, string>
  readonly joined: ReadonlySet<string>
  readonly healthy: ReadonlySet<string>
  readonly cordoned: ReadonlySet<string>
  readonly leader: string | undefined
}

export interface FleetOptions {
  readonly seed: number
  readonly alone: number
  /** How likely it is that a host has what is to come in quarantine: from 0 to 1. */
  readonly quarantined: number
  /** How likely it is that a host says that it did what it did not: from 0 to 1. */
  readonly lying: number
  /** How likely it is that a host takes no orders of some kind: from 0 to 1. */
  readonly forbidding: number
  /** The gates of hosts are asked before each step. */
  readonly askGates: boolean
  /** Clusters have Jobs that are asked before each step. */
  readonly askJobs: boolean
  /** Machines are held, busy or without a target for a while, clusters begin nothing about a node, and the coordinator is halted. */
  readonly mishaps?: boolean
  /** How likely it is that a change is to be tried again, from 0 to 1. Absent: 0.1. */
  readonly retrying?: number
  /** How likely it is that a host outside of clusters is enrolled only while rollouts go on: from 0 to 1. */
  readonly late: number
  /** How likely it is that a worker joins its cluster only while rollouts go on: from 0 to 1. */
  readonly joining: number
  readonly clusters: readonly { readonly servers: number; readonly workers: number }[]
}

export const TICK_MS = 20_000
/** So long a node is Ready by its last word. */
const STALE_MS = 45_000
export const FROM_VERSION = '1.34.3+k3s1'
export const TO_VERSION = '1.35.4'
export const FROM_REVISION = 3
export const TO_REVISION = 7
const LATEST_ENROLMENT_MS = 2 * 3_600_000
const LATEST_JOIN_MS = 90 * 60_000
const START_MS = Date.UTC(2026, 2, 28, 21)
const ALL_VERBS = [
  ...['apply', 'upgrade', 'rollback', 'reboot', 'restart', 'drain', 'snapshot'],
  ...['leave', 'rotate', 'restore', 'join'],
]
const EVERY_DAY = [1, 2, 3, 4, 5, 6, 7]

/** Open for 20 minutes of every hour. */
export const FLEET_WINDOWS: readonly MaintenanceWindow[] = Array.from({ length: 24 }, (_, index) => ({
  days: EVERY_DAY,
  fromMinute: index * 60,
  toMinute: index * 60 + 20,
  timeZone: 'UTC',
}))

export function makeFleet(options: FleetOptions): Fleet {
  const { seed, alone, clusters, quarantined, lying, forbidding, askGates, askJobs, late, joining } = options
  const random = new SeededRandom(seed)
  const kubelets = new SeededRandom(seed + 1)
  const boxes = new Map<string, Box>()
  const add = (host: string, cluster: string | undefined, server: boolean): Box => {
    const from = random.below(24) * 60
    const own = { days: EVERY_DAY, fromMinute: from, toMinute: (from + 600) % 1440, timeZone: 'UTC' }
    const joinsLate = joining > 0 && cluster !== undefined && !server && random.chance(joining)
    const joinsAtMs = joinsLate ? START_MS + random.below(LATEST_JOIN_MS) : 0
    const box: Box = {
      host,
      cluster,
      server,
      rack: `r${random.below(8)}`,
      windows: random.chance(0.1) ? [own] : [],
      lies: random.chance(lying),
      allowed: forbidding === 0 ? ALL_VERBS : ['join', ...ALL_VERBS.filter(() => !random.chance(forbidding))],
      slowness: 1 + random.below(4),
      enrolsAtMs:
        cluster === undefined && random.chance(late) ? START_MS + random.below(LATEST_ENROLMENT_MS) : 0,
      joined: cluster !== undefined && joinsAtMs === 0,
      joinsAtMs,
      revision: FROM_REVISION,
      before: new Map(),
      boots: 1,
      up: true,
      upAtMs: 0,
      cutUntilMs: 0,
      illUntilMs: 0,
      gatesIllUntilMs: 0,
      sessionMs: START_MS,
      version: FROM_VERSION,
      readyAtMs: 0,
      clockMs: kubelets.below(1_200_000) - 600_000,
      renewedMs: START_MS,
      stoppedMs: 0,
      kubeletMs: 0,
      broken: false,
      cordoned: false,
      drained: false,
      lock: undefined,
      pin: undefined,
      quarantined: new Set(random.chance(quarantined) ? [TO_REVISION] : []),
      acting: undefined,
      shownUnwellMs: 0,
    }
    boxes.set(host, box)
    return box
  }
  for (let index = 0; index < alone; index++) add(`a${index + 100}`, undefined, false)
  const members = clusters.map(({ servers, workers }, number) => {
    const name = `k${number}`
    const made = Array.from({ length: servers + workers }, (_, index) =>
      add(`${name}${index < servers ? 's' : 'w'}${index + 100}`, name, index < servers),
    )
    return [name, made] as const
  })
  return {
    random,
    kubelets,
    boxes,
    clusters: new Map(members),
    jobs: new Map(),
    nowMs: START_MS,
    faulty: true,
    grants: 0,
    rollouts: [],
    over: new Map(),
    leaders: new Map(),
    seen: new Map(),
    heardMs: new Map(),
    gateAnswers: new Map(),
    askGates,
    jobsAsked: new Map(),
    jobAnswers: new Map(),
    jobsIllUntilMs: new Map(),
    askJobs,
    mishaps: options.mishaps ?? false,
    retrying: options.retrying ?? 0.1,
    upAtMs: 0,
    blindUntilMs: 0,
    violations: [],
    lost: new Set(),
    counts: {
      crashes: 0,
      restarts: 0,
      lost: 0,
      acts: 0,
      failures: 0,
      handedBack: 0,
      overridden: 0,
      caughtUp: 0,
      restart: 0,
      rotate: 0,
      leave: 0,
      restore: 0,
      takenBack: 0,
      cancelled: 0,
      pastBudget: 0,
      begun: 0,
      unwilling: 0,
      triedAgain: 0,
    },
  }
}

export function isConnected(fleet: Fleet, box: Box): boolean {
  return isEnrolled(fleet, box) && box.up && box.cutUntilMs <= fleet.nowMs && box.acting === undefined
}

export function isEnrolled({ nowMs }: Fleet, { enrolsAtMs }: Box): boolean {
  return enrolsAtMs <= nowMs
}

export function isReady(fleet: Fleet, box: Box): boolean {
  return box.up && !box.broken && box.readyAtMs <= fleet.nowMs
}

/** Time passes for machines: they crash, come back, and go on with what they were told. */
export function passTime(fleet: Fleet, ms: number): void {
  fleet.nowMs += ms
  const { random, nowMs, faulty } = fleet
  for (const box of fleet.boxes.values()) {
    if (box.joinsAtMs > nowMs - ms && box.joinsAtMs <= nowMs) {
      box.joined = true
      box.readyAtMs = Math.max(box.readyAtMs, nowMs)
    }
    if (!box.up && (box.upAtMs <= nowMs || !faulty)) {
      box.up = true
      box.boots += 1
      box.readyAtMs = nowMs + random.below(60_000)
    }
    if (faulty && box.server && random.chance(0.003))
      box.illUntilMs = Math.max(box.illUntilMs, nowMs + random.below(900_000))
    if (faulty && box.joined && random.chance(0.002)) box.readyAtMs = nowMs + random.below(600_000)
    if (fleet.askGates && faulty && random.chance(0.004)) box.gatesIllUntilMs = nowMs + random.below(600_000)
    if (!faulty) box.cutUntilMs = 0
    else if (box.up && random.chance(0.001)) {
      fleet.counts.crashes += 1
      box.up = false
      box.upAtMs = nowMs + random.below(900_000)
    } else if (random.chance(0.0015)) box.cutUntilMs = nowMs + random.below(300_000)
  }
  if (fleet.askJobs && faulty) {
    for (const name of fleet.clusters.keys())
      if (random.chance(0.01)) fleet.jobsIllUntilMs.set(name, nowMs + random.below(600_000))
  }
  if (faulty && random.chance(0.006)) {
    for (const box of fleet.boxes.values()) if (random.chance(0.5)) box.cutUntilMs = nowMs + 300_000
  }
  for (const job of fleet.jobs.values()) if (job.state === 'open') work(fleet, job, ms)
  for (const box of fleet.boxes.values()) {
    if (!isConnected(fleet, box)) box.sessionMs = undefined
    else box.sessionMs ??= nowMs
    renew(fleet, box)
  }
  for (const [name, boxes] of fleet.clusters) {
    elect(fleet, name, boxes)
    if (random.chance(0.25)) fleet.seen.set(name, look(fleet, name, boxes, fleet.seen.get(name)))
  }
}

/** A leader that is gone is followed by any other, and now and then one that is there as well. Without a majority nobody leads. */
function elect(fleet: Fleet, name: string, boxes: readonly Box[]): void {
  const { random, leaders } = fleet
  const voters = boxes.filter(({ server, joined }) => server && joined)
  const able = voters.filter(box => isHealthy(fleet, box))
  if (able.length <= voters.length / 2) leaders.delete(name)
  else if (!able.some(({ host }) => host === leaders.get(name)) || random.chance(0.005)) {
    const next = able[random.below(able.length)]
    if (next) leaders.set(name, next.host)
  }
}

function isHealthy(fleet: Fleet, box: Box): boolean {
  return (
    [box.server, box.joined, box.up, box.acting === undefined, !box.broken].every(Boolean) &&
    box.illUntilMs <= fleet.nowMs
  )
}

/** A kubelet renews its lease when it starts and every ten seconds; what an act stops runs until the act's last moment. */
function renew({ kubelets, nowMs }: Fleet, box: Box): void {
  if (!box.up || box.broken || box.readyAtMs > nowMs) return
  box.kubeletMs = Math.max(box.kubeletMs, box.readyAtMs)
  box.renewedMs = Math.max(box.renewedMs, box.kubeletMs + 1, nowMs - kubelets.below(10_000))
}

function work(fleet: Fleet, job: Job, ms: number): void {
  const box = fleet.boxes.get(job.host)
  if (!box?.up) return
  if (!job.begun) {
    // What a node does it must hear of first; a cordon and what follows is a server's work.
    const byNode = job.step === 'prefetch' || job.step === 'act'
    if (byNode && !(box.cutUntilMs <= fleet.nowMs)) return
    if (job.step === 'act') {
      if (box.acting !== undefined) fleet.violations.push(`two acts: ${job.id} beside ${box.acting}`)
      box.acting = job.id
    }
    job.begun = true
    if (job.step === 'drain') box.cordoned = true
  }
  job.leftMs -= ms
  if (job.leftMs > 0) return
  job.state = job.end
  if (job.end === 'failed') fleet.counts.failures += 1
  if (job.step === 'drain' && job.end === 'done') box.drained = true
  if (job.step === 'uncordon' && job.end === 'done') {
    box.cordoned = false
    box.drained = false
  }
  if (job.step !== 'act') return
  actOn(fleet, box, job)
  const startedMs = fleet.nowMs - fleet.kubelets.below(ms)
  job.disturbed = job.silent
    ? undefined
    : { startedMs: startedMs + box.clockMs, endedMs: fleet.nowMs + box.clockMs }
}

function actOn(fleet: Fleet, box: Box, job: Job): void {
  box.acting = undefined
  box.stoppedMs = fleet.nowMs
  box.renewedMs = Math.min(box.renewedMs, fleet.nowMs)
  box.readyAtMs = fleet.nowMs + 1 + fleet.random.below(90_000)
  const rollout = fleet.rollouts.find(({ id }) => id === job.rollout)
  if (job.end === 'done' && rollout?.action === 'reboot') box.boots += 1
  if (job.end === 'failed' && !job.untouched) box.broken = true
  if (!rollout) return
  const brings = rollout.action === 'apply' || rollout.action === 'upgrade'
  if (job.end === 'failed' && brings) box.quarantined.add(rollout.revision)
  if (job.end === 'done') becomes(fleet, box, rollout)
}

/** What a box is once something was done to it. */
function becomes(fleet: Fleet, box: Box, { id, action, revision, reverts }: RolloutRecord): void {
  const { counts } = fleet
  switch (action) {
    case 'apply':
    case 'upgrade':
      box.before.set(id, box.revision)
      box.revision = revision
      if (action === 'upgrade' && !box.lies) box.version = TO_VERSION
      return
    case 'rollback':
      counts.takenBack += 1
      box.revision = box.before.get(reverts ?? '') ?? box.revision
      return
    case 'leave':
      counts.leave += 1
      box.joined = false
      box.cordoned = false
      box.drained = false
      return
    case 'restore':
      counts.restore += 1
      fleet.lost.delete(box.cluster ?? '')
      for (const one of fleet.clusters.get(box.cluster ?? '') ?? []) if (one.server) one.illUntilMs = 0
      return
    case 'restart':
    case 'rotate':
      counts[action] += 1
      return
    case 'reboot':
    case 'drain':
    case 'uncordon':
    case 'wipe':
      return
  }
}

/** Every server of a cluster loses what it stored: nothing but a restore mends that. */
export function loseDatastore(fleet: Fleet, cluster: string): void {
  fleet.lost.add(cluster)
  for (const box of fleet.clusters.get(cluster) ?? [])
    if (box.server) box.illUntilMs = Number.POSITIVE_INFINITY
}

function evidenceOf(box: Box, before: SeenCluster | undefined): NodeEvidence {
  const { host, clockMs, boots, kubeletMs } = box
  const renewedMs = box.renewedMs + clockMs
  const earlier = before?.evidence.get(host)
  const renewedAfterMs = earlier?.renewedMs === renewedMs ? earlier.renewedAfterMs : before?.asOfMs
  const bootId = `boot-${boots}`
  return { renewedMs, renewedAfterMs, bootId, ownBootId: bootId, startedMs: kubeletMs + clockMs }
}

function look(
  fleet: Fleet,
  name: string,
  boxes: readonly Box[],
  before: SeenCluster | undefined,
): SeenCluster {
  const { nowMs } = fleet
  return {
    asOfMs: fleet.nowMs,
    ready: new Map(boxes.map(box => [box.host, box.joined && nowMs - box.renewedMs <= STALE_MS])),
    evidence: new Map(boxes.map(box => [box.host, evidenceOf(box, before)])),
    joined: new Set(boxes.filter(({ joined }) => joined).map(({ host }) => host)),
    versions: new Map(boxes.map(box => [box.host, box.version])),
    healthy: new Set(boxes.filter(box => isHealthy(fleet, box)).map(({ host }) => host)),
    // Some servers do not say it.
    leader: fleet.random.chance(0.1) ? undefined : fleet.leaders.get(name),
    cordoned: new Set(boxes.filter(({ cordoned }) => cordoned).map(({ host }) => host)),
  }
}
