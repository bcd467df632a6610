import type { Amount } from '../../../../shared/rollout/amount.ts'
import type { FailurePolicy } from '../../../../shared/rollout/rollout-bounds.ts'
import type { Decision } from '../decision.ts'
import type { HostRecord, RolloutAction, RolloutRecord } from '../rollout-record.ts'
import type { RolloutSnapshot } from '../rollout-snapshot.ts'
import { worthBeginning } from '../worth-beginning.ts'
import { snapshotOf } from './simulated-coordinator.ts'
import {
  type Box,
  type Fleet,
  type FleetOptions,
  FROM_REVISION,
  isConnected,
  isEnrolled,
  loseDatastore,
  type Over,
  TO_REVISION,
} from './simulated-fleet.ts'

export type Planner = (snapshot: RolloutSnapshot, nowMs: number) => Decision

export interface SimulationOptions extends FleetOptions {
  readonly maxUnavailable: Amount
  readonly onFailure: FailurePolicy
  readonly maxFailures: number | undefined
  readonly spread: boolean
  readonly canaries: number
  /** Operators name hosts one by one. */
  readonly byHand: boolean
  /** What the first rollouts do: over some hosts, over the others, and over some of the first again. */
  readonly actions: readonly RolloutAction[]
  /** What operators ask for after that, one after the other, as soon as nothing else has the hosts. */
  readonly later: readonly RolloutAction[]
  /** The datastore of the first cluster is lost in the middle of it all, and restored. */
  readonly calamity: boolean
}

const FROM_ALL_GATES = [
  ...([
    'rollout',
    'cluster',
    'order',
    'servers',
    'canary',
    'budget',
    'spread',
    'silence',
    'lock',
    'pin',
  ] as const),
  ...(['window', 'health', 'checks', 'jobs', 'soak', 'given-up'] as const),
  // These open for nobody, whatever is written.
  ...(['quorum', 'away', 'busy', 'unknown', 'unbound', 'skew', 'held'] as const),
] as const

/** Actions of a cluster that its servers or members do in one step. */
const ACTS: readonly RolloutAction[] = ['rotate', 'leave', 'restore']

/** People lock, pin, pause, abort and override at any time. */
export function causeTrouble(fleet: Fleet, { calamity }: SimulationOptions): void {
  const { random, nowMs } = fleet
  const [box] = [random.pick([...fleet.boxes.values()])]
  if (box && random.chance(0.02)) box.lock = box.lock === undefined ? 'made up' : undefined
  const comes = random.chance(0.04)
  const revision = random.chance(0.2) ? TO_REVISION : FROM_REVISION
  if (box && comes) box.pin = { revision, why: 'made up', untilMs: nowMs + random.below(3_600_000) }
  else if (box && random.chance(0.04)) box.pin = undefined
  if (random.chance(0.01)) {
    fleet.rollouts = fleet.rollouts.map(rollout => {
      if (rollout.state === 'ending' || random.chance(0.5)) return rollout
      if (random.chance(0.05)) return { ...rollout, state: 'ending', endsAs: 'aborted' }
      return { ...rollout, state: rollout.state === 'paused' ? 'running' : 'paused' }
    })
  }
  if (random.chance(0.01)) callOff(fleet)
  if (random.chance(0.06)) override(fleet, random.pick(FROM_ALL_GATES) ?? 'lock')
  const [first] = fleet.clusters
  if (calamity && first && random.chance(0.01) && fleet.counts.restore === 0) {
    const [name, boxes] = first
    // Where an owner lets nothing be restored nobody but he can help.
    if (boxes.every(({ server, allowed }) => !server || allowed.includes('restore')))
      loseDatastore(fleet, name)
  }
}

/** A rollout that takes another back is one like any other, and so it is called off like any other. */
function callOff(fleet: Fleet): void {
  fleet.rollouts = fleet.rollouts.map(rollout => {
    if (rollout.reverts === undefined || rollout.state === 'ending') return rollout
    fleet.counts.cancelled += 1
    return { ...rollout, state: 'ending', endsAs: 'aborted' }
  })
}

function override(fleet: Fleet, gate: (typeof FROM_ALL_GATES)[number]): void {
  const rollout = fleet.random.pick(fleet.rollouts)
  const host = rollout && fleet.random.pick(rollout.hosts)
  if (!rollout || !host) return
  const overrides = new Set([...rollout.overrides, `${host.host} ${gate}`])
  fleet.rollouts = fleet.rollouts.map(one => (one === rollout ? { ...one, overrides } : one))
}

/** Locks go but for some that stay, and are opened for the rollouts that are under way: an override has to help there. */
export function becomeQuiet(fleet: Fleet): void {
  for (const box of fleet.boxes.values()) {
    if (box.lock === undefined || fleet.random.chance(0.5)) box.lock = undefined
    else {
      fleet.rollouts = fleet.rollouts.map(rollout => ({
        ...rollout,
        overrides: new Set([...rollout.overrides, `${box.host} lock`]),
      }))
    }
  }
  fleet.rollouts = fleet.rollouts.map(rollout =>
    rollout.state === 'paused' ? { ...rollout, state: 'running' } : rollout,
  )
}

/**
 * What failed, and holds others while it is cordoned, is mended by a person and nobody else; who sees that the last server of a cluster
 * waits to leave it calls that off.
 */
export function mend(fleet: Fleet): void {
  fleet.rollouts = fleet.rollouts.map(rollout =>
    rollout.action === 'leave' || waitsForAServer(fleet, rollout)
      ? { ...rollout, state: 'ending', endsAs: 'aborted' }
      : rollout,
  )
  for (const box of fleet.boxes.values()) {
    box.broken = false
    box.cordoned = false
    box.drained = false
  }
}

/** Where two servers are left of three neither can be touched without losing the quorum: that is rightly waited for until somebody adds one. */
function waitsForAServer({ clusters }: Fleet, { hosts }: RolloutRecord): boolean {
  const voters = (cluster: string) =>
    (clusters.get(cluster) ?? []).filter(({ server, joined }) => server && joined).length
  return hosts.some(({ server, cluster }) => server && cluster !== undefined && voters(cluster) === 2)
}

/** One rollout over some hosts, one beside it over the rest, and one that waits for the first. */
export function beginFirst(fleet: Fleet, options: SimulationOptions): void {
  const boxes = [...fleet.boxes.values()]
  const isFirst = ({ cluster, host }: Box) =>
    cluster === undefined ? host.charCodeAt(host.length - 1) % 3 > 0 : cluster !== 'k2'
  const [one = 'apply', two = 'reboot', three = 'reboot'] = options.actions
  const first = boxes.filter(isFirst)
  const rest = boxes.filter(box => !isFirst(box))
  begin(fleet, options, { id: 'r1', action: one, members: first })
  begin(fleet, options, { id: 'r2', action: two, members: rest })
  begin(fleet, options, { id: 'r3', action: three, members: first.slice(0, 12), after: ['r1'] })
}

/** Whatever is begun beside the first rollouts. Says whether something is left that will be begun. */
export function beginMore(
  fleet: Fleet,
  options: SimulationOptions,
  plan: Planner,
  asked: { count: number },
): boolean {
  const reverts = beginReverts(fleet, options)
  const caughtUp = beginCatchUps(fleet, options, plan)
  const restores = restoreWhatIsLost(fleet, options)
  const action = options.later[asked.count]
  if (action !== undefined && fleet.random.chance(0.05)) {
    asked.count += 1
    askFor(fleet, options, action, `o${asked.count}`)
  }
  return reverts || caughtUp || restores || asked.count < options.later.length
}

/** What an operator wants next, of what nothing else has at the moment. */
function askFor(fleet: Fleet, options: SimulationOptions, action: RolloutAction, id: string): void {
  const { random } = fleet
  if (action === 'rollback') {
    askToTakeBack(fleet, options, id)
    return
  }
  const [cluster] = [random.pick([...fleet.clusters.values()])]
  const joined = (cluster ?? []).filter(box => box.joined && isEnrolled(fleet, box))
  const alone = [...fleet.boxes.values()].filter(box => box.cluster === undefined)
  const some = random.chance(0.5) ? joined : alone
  const one = random.pick(joined)
  const members =
    action === 'leave' ? (one ? [one] : []) : action === 'restart' || action === 'rotate' ? joined : some
  if (touching(fleet, members) === undefined) begin(fleet, options, { id, action, members })
}

/** A rollout to a revision that was not taken back: one that is under way where there is one, and else the newest. */
function askToTakeBack(fleet: Fleet, options: SimulationOptions, id: string): void {
  const open = fleet.rollouts.filter(({ state }) => state !== 'ending')
  const over = [...fleet.over.values()].map(({ record }) => record).reverse()
  for (const record of [...open, ...over]) {
    if (record.action !== 'apply' || isTakenBack(fleet, record.id)) continue
    if (!takeBack(fleet, options, id, record)) continue
    fleet.rollouts = fleet.rollouts.map(one =>
      one.id === record.id ? { ...one, state: 'ending', endsAs: 'aborted' } : one,
    )
    return
  }
}

function isTakenBack({ rollouts, over }: Fleet, id: string): boolean {
  return (
    rollouts.some(({ reverts }) => reverts === id) ||
    [...over.values()].some(({ record }) => record.reverts === id)
  )
}

/** Begins the rollout that takes another back, if anything of it was done and nothing else has the hosts. */
function takeBack(fleet: Fleet, options: SimulationOptions, id: string, record: RolloutRecord): boolean {
  const moved = new Set(
    record.hosts
      .filter(({ grants }) =>
        grants.some(
          ({ step, end }) => step === 'act' && end?.outcome !== 'failed' && end?.outcome !== 'again',
        ),
      )
      .map(({ host }) => host),
  )
  const members = [...fleet.boxes.values()].filter(({ host }) => moved.has(host))
  if (members.length === 0 || touching(fleet, members, record.id) !== undefined) return false
  begin(fleet, options, { id, action: 'rollback', members, reverts: record.id })
  return true
}

/** By their policies; whoever starts after a kill finds in what is over what is to be taken back. */
function beginReverts(fleet: Fleet, options: SimulationOptions): boolean {
  let waiting = false
  for (const [id, { revert, record }] of fleet.over) {
    if (!revert || record.action !== 'apply' || isTakenBack(fleet, id)) continue
    waiting ||= !takeBack(fleet, options, `back-${id}`, record)
  }
  return waiting
}

/** A datastore that is lost holds what is under way in its cluster, so that is ended, and it is restored. */
function restoreWhatIsLost(fleet: Fleet, options: SimulationOptions): boolean {
  for (const cluster of fleet.lost) {
    const servers = fleet.clusters.get(cluster)?.filter(({ server, joined }) => server && joined) ?? []
    const other = touching(fleet, servers)
    if (other !== undefined && other.action !== 'restore') {
      fleet.rollouts = fleet.rollouts.map(one =>
        one.id === other.id ? { ...one, state: 'ending', endsAs: 'aborted' } : one,
      )
    }
    if (other !== undefined) continue
    const [one] = servers
    if (one) one.lock = undefined
    if (one) begin(fleet, options, { id: `restore-${fleet.over.size}`, action: 'restore', members: [one] })
  }
  return fleet.lost.size > 0
}

/** Hosts that the last rollout to a revision which named them left behind, though it succeeded, and that nobody took back. */
export function leftBehind(fleet: Fleet): ReadonlyMap<string, Over> {
  const last = new Map<string, { readonly over: Over | undefined; readonly left: boolean }>()
  const all = [
    ...[...fleet.over.values()].map(over => ({ record: over.record, over })),
    ...fleet.rollouts.map(record => ({ record, over: undefined })),
  ].toSorted((a, b) => a.record.startedMs - b.record.startedMs)
  for (const { record, over } of all) {
    if (record.action !== 'apply' && record.action !== 'rollback') continue
    const isMute = record.action === 'rollback' && (over?.state === 'failed' || over?.state === 'aborted')
    for (const { host, grants } of record.hosts) {
      const begun = grants.some(({ step, end }) => step === 'act' && end?.outcome !== 'again')
      if (isMute && !begun) continue
      const failed = grants.some(({ end }) => end?.outcome === 'failed')
      const left = record.action === 'apply' && over?.state === 'succeeded' && !begun && !failed
      last.set(host, { over, left })
    }
  }
  return new Map(
    [...last].flatMap(([host, { over, left }]) =>
      left && over && !isTakenBack(fleet, over.record.id) ? [[host, over] as const] : [],
    ),
  )
}

/** Only a person lets it go on. */
export function isKept(fleet: Fleet, box: Box, record: RolloutRecord): boolean {
  return box.lock !== undefined || box.quarantined.has(record.revision) || isForbidden(fleet, box, record)
}

/** The owner of its machine, or those of all servers of its cluster, forbid a step on the way to the change. */
export function isForbidden({ clusters }: Fleet, box: Box, { action }: RolloutRecord): boolean {
  if (!box.allowed.includes(action)) return true
  if (!box.joined) return false
  const servers = clusters.get(box.cluster ?? '')?.filter(({ server, joined }) => server && joined) ?? []
  return (
    (box.server && !box.allowed.includes('snapshot')) ||
    !servers.some(({ allowed }) => allowed.includes('drain'))
  )
}

/**
 * Whoever was left behind and is here now follows, those of one rollout together: not while others prove it, nor after it failed. Says
 * whether anybody will.
 */
function beginCatchUps(fleet: Fleet, options: SimulationOptions, plan: Planner): boolean {
  let pending = false
  const groups = new Map<string, Box[]>()
  for (const [host, { record }] of leftBehind(fleet)) {
    const box = fleet.boxes.get(host)
    if (!box || isKept(fleet, box, record) || isCalledOff(fleet, options)) continue
    pending = true
    const waits = options.canaries > 0 && fleet.rollouts.some(({ id }) => isCatchUp(id))
    if (waits || !isConnected(fleet, box) || touching(fleet, [box]) !== undefined) continue
    groups.set(record.id, [...(groups.get(record.id) ?? []), box])
  }
  const candidates = [...groups].map(([source, members]) => {
    fleet.counts.begun += 1
    return makeRecord(fleet, options, { id: `${source}+${fleet.counts.begun}`, action: 'apply', members })
  })
  if (candidates.length === 0) return pending
  const snapshot = snapshotOf(fleet)
  const thought = { ...snapshot, rollouts: [...snapshot.rollouts, ...candidates] }
  const worth = worthBeginning(candidates, plan(thought, fleet.nowMs))
  for (const record of candidates) {
    const hosts = record.hosts.filter(({ host }) => worth.get(record.id)?.has(host))
    const boxes = hosts.flatMap(({ host }) => fleet.boxes.get(host) ?? [])
    if (hosts.length === 0 || touching(fleet, boxes) !== undefined) continue
    fleet.rollouts = [...fleet.rollouts, { ...record, hosts }]
    fleet.counts.caughtUp += 1
  }
  return pending
}

function isCatchUp(id: string): boolean {
  return id.includes('+')
}

/** Somebody failed who caught up, and nobody follows. */
export function isCalledOff({ over }: Fleet, { onFailure }: SimulationOptions): boolean {
  return onFailure !== 'continue' && [...over].some(([id, { state }]) => isCatchUp(id) && state === 'failed')
}

/** A rollout that is not over and has one of these hosts, or touches one of their clusters: nothing is begun beside it. */
function touching(fleet: Fleet, members: readonly Box[], but = ''): RolloutRecord | undefined {
  const names = new Set(members.map(({ host }) => host))
  const clusters = new Set(members.flatMap(({ cluster }) => cluster ?? []))
  return fleet.rollouts.find(
    ({ id, hosts }) =>
      id !== but &&
      hosts.some(({ host, cluster }) => names.has(host) || (cluster !== undefined && clusters.has(cluster))),
  )
}

interface Beginning {
  readonly id: string
  readonly action: RolloutAction
  readonly members: readonly Box[]
  readonly after?: readonly string[]
  readonly reverts?: string
}

function begin(fleet: Fleet, options: SimulationOptions, beginning: Beginning): void {
  const record = makeRecord(fleet, options, beginning)
  if (record.hosts.length > 0) fleet.rollouts = [...fleet.rollouts, record]
}

/** What is frozen of a rollout. Those who are no part of the cluster that an act is about are no members. */
function makeRecord(
  fleet: Fleet,
  options: SimulationOptions,
  { id, action, members: asked, after = [], reverts }: Beginning,
): RolloutRecord {
  const inCluster = action === 'restart' || ACTS.includes(action)
  const members = inCluster ? asked.filter(({ joined }) => joined) : asked
  const able = members.filter(({ server }) => !server)
  const canaries = new Set(able.slice(0, options.canaries).map(({ host }) => host))
  const hosts = members.map((box, index): HostRecord => {
    const { host } = box
    const cluster = box.joined ? box.cluster : undefined
    const before = members[index + 3]
    const edge = before && cluster === undefined && before.cluster === undefined && fleet.random.chance(0.3)
    const canary = canaries.has(host) && canaries.size < members.length
    const server = cluster !== undefined && box.server
    return {
      machine: isEnrolled(fleet, box) ? `m-${host}` : undefined,
      host,
      cluster,
      server,
      canary,
      drainLimitMs: undefined,
      grants: [],
      after: edge ? [before.host] : [],
      boots: isEnrolled(fleet, box) ? box.boots : undefined,
    }
  })
  return {
    id,
    action,
    state: 'running',
    endsAs: undefined,
    startedMs: fleet.nowMs,
    after,
    hosts,
    reverts,
    revision: action === 'apply' || action === 'upgrade' ? TO_REVISION : 0,
    overrides: new Set(),
    settings: {
      maxUnavailable: options.maxUnavailable,
      maxUnavailableAlone: options.maxUnavailable,
      soakMs: 60_000,
      canarySoakMs: 120_000,
      onFailure: options.onFailure,
      maxFailures: options.maxFailures,
      spread: options.spread ? 'rack' : undefined,
      drainLimitMs: 300_000,
      prefetch: fleet.random.chance(0.5),
      direct: options.byHand,
      awayMs: 600_000,
    },
  }
}
