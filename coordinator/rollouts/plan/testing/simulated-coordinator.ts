import type { Decision, NewGrant } from '../decision.ts'
import type { Grant, HostRecord, RolloutRecord } from '../rollout-record.ts'
import type { ClusterView, HostView, JobsView, OperationView, RolloutSnapshot } from '../rollout-snapshot.ts'
import { isBusy, isHalted, isHeld, isTargetless, isUnwilling } from './mishaps.ts'
import {
  type Box,
  FLEET_WINDOWS,
  type Fleet,
  isConnected,
  isEnrolled,
  type Job,
  TO_VERSION,
} from './simulated-fleet.ts'

const SILENT_FOR_MS = 600_000
/** Of an apply that ended without fault of its target: how long it waits before each time that it is tried again. */
const RETRY_DELAYS_MS = [60_000, 300_000]

/** What the coordinator can know of the fleet now. */
export function snapshotOf(fleet: Fleet): RolloutSnapshot {
  const { nowMs } = fleet
  const hosts = new Map<string, HostView>()
  const versions = new Map(
    fleet.rollouts.filter(({ action }) => action === 'upgrade').map(({ id }) => [id, TO_VERSION]),
  )
  const clusters = new Map<string, ClusterView>()
  for (const [name, boxes] of fleet.clusters) {
    const view = fleet.blindUntilMs > nowMs ? undefined : viewOfCluster(fleet, name, boxes)
    if (view) clusters.set(name, view)
  }
  for (const box of fleet.boxes.values()) {
    // What certainly runs nothing of its cluster any more is as outside of it.
    const outside = clusters.get(box.cluster ?? '')?.members.get(box.host)?.joined === false
    hosts.set(box.host, viewOf(fleet, box, outside ? undefined : box.cluster, versions))
  }
  return {
    rollouts: fleet.rollouts,
    others: new Map([
      ...fleet.rollouts.map(({ id, state }) => [id, state] as const),
      ...[...fleet.over].map(([id, { state }]) => [id, state] as const),
    ]),
    hosts,
    clusters,
    operations: operationsOf(fleet),
    follows: new Map([['k1', ['k0']]]),
    windows: FLEET_WINDOWS,
    silence: silenceOf(fleet),
    gates: fleet.askGates ? new Map(fleet.gateAnswers) : undefined,
    jobs: new Map(fleet.askJobs ? [...fleet.clusters.keys()].map(name => [name, jobsOf(fleet, name)]) : []),
    watchedSinceMs: fleet.upAtMs,
    halted: isHalted(fleet) ? 'made up' : undefined,
  }
}

function jobsOf({ jobAnswers }: Fleet, cluster: string): JobsView {
  return { revision: 1, manifestDigest: '', deadlineMs: 120_000, answer: jobAnswers.get(cluster) }
}

const NONE: ReadonlyMap<string, string> = new Map()

function viewOf(
  fleet: Fleet,
  box: Box,
  cluster: string | undefined,
  versions: ReadonlyMap<string, string>,
): HostView {
  const connected = isConnected(fleet, box)
  return {
    host: box.host,
    machine: isEnrolled(fleet, box) ? `m-${box.host}` : undefined,
    cluster,
    server: cluster !== undefined && box.server,
    labels: { rack: box.rack },
    connected,
    connectedSinceMs: box.sessionMs,
    awaySinceMs: connected || !isEnrolled(fleet, box) ? undefined : awaySince(fleet, box),
    held: isHeld(fleet, box) ? 'made up' : undefined,
    busyWith: isBusy(fleet, box) ? 'made up' : undefined,
    refused: isTargetless(fleet, box) ? new Map(fleet.rollouts.map(({ id }) => [id, 'made up'])) : NONE,
    quarantined: box.quarantined,
    lock: box.lock,
    pin: box.pin,
    windows: box.windows,
    allowed: box.allowed,
    boots: box.boots,
    versions: cluster === undefined ? NONE : versions,
  }
}

/** Nobody was awaited before the coordinator started. */
function awaySince({ heardMs, upAtMs }: Fleet, { host, enrolsAtMs }: Box): number {
  return Math.max(heardMs.get(host) ?? 0, upAtMs, enrolsAtMs)
}

function viewOfCluster(fleet: Fleet, name: string, boxes: readonly Box[]): ClusterView | undefined {
  const seen = fleet.seen.get(name)
  if (!seen) return undefined
  const servers = boxes.filter(({ server, host }) => server && seen.joined.has(host))
  const members = servers.map(({ host }) => ({ name: host, learner: false, healthy: seen.healthy.has(host) }))
  return {
    name,
    datastore: { kind: 'read', quorum: { members, voters: members.length, healthy: seen.healthy.size } },
    serverChange: undefined,
    leader: servers.find(({ host }) => host === seen.leader)?.host,
    first: servers.at(-1)?.host,
    members: new Map(
      boxes.map(({ host, server }) => {
        const version = seen.versions.get(host)
        return [
          host,
          {
            joined: seen.joined.has(host),
            server,
            ready: seen.ready.get(host),
            asOfMs: seen.asOfMs,
            version,
            kubelet: version,
            // Of the store, which is never behind.
            cordonedBy: fleet.boxes.get(host)?.cordoned ? 'ours' : undefined,
            evidence: seen.evidence.get(host),
          },
        ]
      }),
    ),
  }
}

function operationsOf(fleet: Fleet): ReadonlyMap<string, OperationView> {
  const views = [...fleet.jobs.values()].map(
    ({ id, state, untouched, plan, disturbed }): [string, OperationView] => [
      id,
      {
        id,
        state,
        untouched,
        plan: state === 'open' ? undefined : plan,
        endedMs: undefined,
        reason: state === 'failed' ? 'made up' : '',
        retryDelaysMs: state === 'retry' ? RETRY_DELAYS_MS : [],
        disturbed,
      },
    ],
  )
  const unwilling = unwillingGrants(fleet).map(({ operation: id }): [string, OperationView] => [
    id,
    {
      id,
      state: 'unwilling',
      reason: 'made up',
      endedMs: undefined,
      retryDelaysMs: [],
      untouched: true,
      plan: undefined,
    },
  ])
  return new Map([...views, ...unwilling])
}

/** Acts that were granted, and that their clusters would not begin if they were asked now. */
export function unwillingGrants(fleet: Fleet): readonly Grant[] {
  return fleet.rollouts.flatMap(({ action, hosts }) =>
    hosts.flatMap(({ host, grants }) => {
      const open = grants.at(-1)
      const box = fleet.boxes.get(host)
      const isAsked = open && !open.end && open.operation !== '' && isActOfCluster(action, open.step)
      return isAsked && box && isUnwilling(fleet, box) && !fleet.jobs.has(open.operation) ? [open] : []
    }),
  )
}

/** A server does it, and the planner of its cluster is asked to begin it. */
function isActOfCluster(action: RolloutRecord['action'], step: Grant['step']): boolean {
  if (step === 'act') return action === 'rotate' || action === 'leave' || action === 'restore'
  return step === 'snapshot' || step === 'drain' || step === 'uncordon'
}

function silenceOf(fleet: Fleet) {
  const { nowMs, heardMs } = fleet
  const moved = new Set(
    fleet.rollouts.flatMap(({ hosts }) =>
      hosts.filter(({ grants }) => grants.some(({ end }) => !end)).map(({ host }) => host),
    ),
  )
  let silent = 0
  let here = 0
  for (const box of fleet.boxes.values()) {
    if (!isEnrolled(fleet, box)) continue
    if (isConnected(fleet, box)) {
      heardMs.set(box.host, nowMs)
      here += 1
    } else if (nowMs - (heardMs.get(box.host) ?? nowMs) <= SILENT_FOR_MS && !moved.has(box.host)) silent += 1
  }
  return { known: here + silent, silent, percent: 30 }
}

/** Writes a decision whole, as one transaction does. */
export function writeDecision(fleet: Fleet, decision: Decision): void {
  const ends = new Map(decision.closings.map(({ grant, end }) => [grant, end]))
  const given = new Map<string, NewGrant[]>()
  for (const grant of decision.grants) {
    const key = `${grant.rollout} ${grant.host}`
    given.set(key, [...(given.get(key) ?? []), grant])
  }
  fleet.rollouts = fleet.rollouts.map(rollout => {
    const move = decision.moves.find(one => one.rollout === rollout.id)
    const hosts = rollout.hosts.map(host =>
      written(fleet, rollout, placed(decision, rollout, host), ends, given.get(`${rollout.id} ${host.host}`)),
    )
    const state = move?.state === 'ending' ? 'ending' : rollout.state
    const opened = decision.opened.filter(one => one.rollout === rollout.id)
    const overrides = new Set([...rollout.overrides, ...opened.map(({ host, gate }) => `${host} ${gate}`)])
    return { ...rollout, hosts, state, overrides, endsAs: move?.endsAs ?? rollout.endsAs }
  })
  for (const { rollout: id, state, reason, revert } of decision.moves) {
    const record = fleet.rollouts.find(rollout => rollout.id === id)
    if (!record || state === 'running' || state === 'ending') continue
    fleet.over.set(id, { state, reason, record, revert, onlyLocked: onlyLocked(fleet) })
    fleet.rollouts = fleet.rollouts.filter(rollout => rollout !== record)
  }
}

function placed({ placements }: Decision, { id }: RolloutRecord, host: HostRecord): HostRecord {
  const to = placements.find(one => one.rollout === id && one.host === host.host)
  // Only workers come late.
  return to ? { ...host, cluster: to.cluster } : host
}

function onlyLocked(fleet: Fleet): ReadonlySet<string> {
  const boxes = [...fleet.boxes.values()].filter(
    box =>
      box.lock !== undefined &&
      isConnected(fleet, box) &&
      (box.pin?.untilMs ?? 0) <= fleet.nowMs &&
      !isHeld(fleet, box) &&
      !isTargetless(fleet, box),
  )
  return new Set(boxes.map(({ host }) => host))
}

function written(
  fleet: Fleet,
  rollout: RolloutRecord,
  host: HostRecord,
  ends: ReadonlyMap<number, Decision['closings'][number]['end']>,
  given: readonly NewGrant[] | undefined,
): HostRecord {
  const isClosed = host.grants.some(({ id, end }) => !end && ends.has(id))
  if (!given && !isClosed) return host
  const closed = host.grants.map(grant => {
    const end = grant.end ? undefined : ends.get(grant.id)
    return end ? { ...grant, end: { ...end, atMs: fleet.nowMs } } : grant
  })
  const added = (given ?? []).map(({ step, attempt, skipped: unneeded }): Grant => {
    fleet.grants += 1
    const skipped = unneeded ?? (step === 'act' ? whyNotTakenBack(fleet, rollout, host.host) : undefined)
    const operation =
      step === 'prove' || step === 'soak' || skipped !== undefined
        ? ''
        : `${rollout.id}.${host.host}.${step}.${attempt}`
    const end =
      skipped === undefined
        ? undefined
        : ({ outcome: 'skipped', reason: skipped, atMs: fleet.nowMs } as const)
    return { id: fleet.grants, step, attempt, grantedMs: fleet.nowMs, operation, end }
  })
  return { ...host, grants: [...closed, ...added] }
}

/** What the other rollout did not move is where it was. */
function whyNotTakenBack(fleet: Fleet, { reverts }: RolloutRecord, name: string): string | undefined {
  if (reverts === undefined) return undefined
  const record = fleet.over.get(reverts)?.record ?? fleet.rollouts.find(({ id }) => id === reverts)
  const host = record?.hosts.find(one => one.host === name)
  const moved = host?.grants.some(({ step, end }) => step === 'act' && end?.outcome === 'done')
  return moved ? undefined : 'it was not moved'
}

/** Orders and acts that were granted are given, sometimes late, sometimes again: by their ids they are done once. */
export function giveJobs(fleet: Fleet): void {
  const { random, jobs, faulty } = fleet
  const unwilling = new Set(unwillingGrants(fleet).map(({ operation }) => operation))
  for (const { id: rollout, action, hosts } of fleet.rollouts) {
    for (const { host, grants } of hosts) {
      const open = grants.at(-1)
      if (!open || open.end || open.operation === '' || jobs.has(open.operation)) continue
      if (unwilling.has(open.operation)) {
        fleet.counts.unwilling += 1
        continue
      }
      if (faulty && random.chance(0.2)) continue
      const box = fleet.boxes.get(host)
      const { step } = open
      const failing = faulty && random.chance(step === 'act' ? 0.03 : 0.004)
      const retry =
        !failing && faulty && step === 'act' && action === 'apply' && random.chance(fleet.retrying)
      const job: Job = {
        id: open.operation,
        host,
        step,
        rollout,
        begun: false,
        state: 'open',
        end: failing && step !== 'uncordon' ? 'failed' : retry ? 'retry' : 'done',
        untouched: !failing || random.chance(0.7),
        plan:
          step === 'prefetch'
            ? { reboots: random.chance(0.3), touchesKubernetes: random.chance(0.4) }
            : undefined,
        silent: fleet.kubelets.chance(0.3),
        disturbed: undefined,
        leftMs: (1 + random.below(8)) * 10_000 * (box?.slowness ?? 1),
      }
      if (step === 'act') fleet.counts.acts += 1
      jobs.set(job.id, job)
    }
  }
}

/** Hosts that wait for their own gates alone are asked, and some answer; the others are asked again. */
export function askGates(fleet: Fleet, machines: ReadonlySet<string>): void {
  const { random, nowMs, gateAnswers } = fleet
  for (const machine of gateAnswers.keys()) if (!machines.has(machine)) gateAnswers.delete(machine)
  for (const box of fleet.boxes.values()) {
    const machine = `m-${box.host}`
    if (!machines.has(machine) || (fleet.faulty && random.chance(0.2))) continue
    const problem = !isConnected(fleet, box)
      ? 'not asked'
      : box.gatesIllUntilMs > nowMs
        ? 'gate made-up is unhealthy'
        : undefined
    gateAnswers.set(machine, { askedMs: nowMs, problem })
  }
}

/** Asks servers to run the Jobs of clusters that are waited for. They take their time, and answer for when they were asked. */
export function askJobs(fleet: Fleet, clusters: ReadonlySet<string>): void {
  const { random, nowMs, jobsAsked, jobAnswers, jobsIllUntilMs } = fleet
  for (const name of [...jobsAsked.keys(), ...jobAnswers.keys()]) {
    if (clusters.has(name)) continue
    jobsAsked.delete(name)
    jobAnswers.delete(name)
  }
  for (const name of clusters) {
    const asked = jobsAsked.get(name)
    if (!asked) {
      jobsAsked.set(name, { atMs: nowMs, dueMs: nowMs + random.below(100_000) })
      continue
    }
    if (asked.dueMs > nowMs) continue
    jobsAsked.delete(name)
    const isThere = fleet.clusters.get(name)?.some(box => box.server && box.joined && isConnected(fleet, box))
    const isIll = (jobsIllUntilMs.get(name) ?? 0) > asked.atMs
    const problem = isIll ? 'gate made-up is unhealthy' : isThere ? undefined : 'not asked'
    jobAnswers.set(name, { askedMs: asked.atMs, problem })
  }
}
