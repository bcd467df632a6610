import { Servers } from './allow-gate.ts'
import { Availability } from './availability.ts'
import { ClusterVersions } from './cluster-gates.ts'
import type { Closing, Decision, NewGrant, NewOverride, RolloutMove, Wait } from './decision.ts'
import { whyPassed } from './gate-table.ts'
import { type GateInput, waitsOf } from './gates.ts'
import { isDisruptive, nextAttempt } from './host-steps.ts'
import { judgeGrant } from './judge-grant.ts'
import { failuresOf, isStopped, judgeRollout } from './judge-rollout.ts'
import { lastServer } from './last-server.ts'
import { askWait, isHandedBack, nextStep, retryWait, soakWait, whatIsStale } from './next-step.ts'
import { LastSteps } from './own-gates.ts'
import { Placements } from './placements.ts'
import { Predecessors } from './predecessors.ts'
import type { Grant, HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'
import { Standing } from './standing.ts'
import { whyNotAnyMore, whyNotNeeded } from './why-not-needed.ts'
import { WallClocks } from './window-open.ts'

/** Steps that one run may grant to one host: each but the last is over as it is granted. */
const MOST_STEPS = 12
/** Hosts that fetch and build at once, over all rollouts: what they fetch from bears no more. */
export const MOST_FETCHING = 100

/**
 * The one place that decides what rollouts do. It grants what may be done now, closes what is over, and says of everything else why it
 * waits. The same snapshot and time give the same decision; what it decided is in the next snapshot, so nothing is decided twice.
 */
export function planRollouts(snapshot: RolloutSnapshot, nowMs: number): Decision {
  const closings: Closing[] = []
  const placements = new Placements(snapshot)
  const standings = snapshot.rollouts.map(rollout =>
    stand(snapshot, placements.place(rollout), closings, nowMs),
  )
  const run: Run = {
    snapshot,
    nowMs,
    availability: new Availability(snapshot, standings),
    clocks: new WallClocks(nowMs),
    versions: new ClusterVersions(),
    lastSteps: new LastSteps(standings),
    servers: new Servers(snapshot),
    placements,
    last: new Map(
      [...snapshot.clusters].flatMap(([name, cluster]) => {
        const last = lastServer(cluster)
        return last ? [[name, last.host]] : []
      }),
    ),
    fetching: 0,
    grants: [],
    opened: [],
  }
  for (const standing of standings) {
    for (const name of standing.names()) if (isFetching(standing, name)) run.fetching += 1
  }
  const moves: RolloutMove[] = []
  const waits = new Map<string, ReadonlyMap<string, readonly Wait[]>>()
  for (const [index, standing] of standings.entries()) {
    const held = planRollout(run, standing)
    waits.set(standing.rollout.id, held)
    const move = judgeRollout(snapshot, standing, held, nowMs)
    if (move) moves.push(move)
    else if (snapshot.rollouts[index]?.state !== standing.rollout.state) moves.push(movedTo(standing))
  }
  return { placements: placements.made, grants: run.grants, opened: run.opened, closings, moves, waits }
}

interface Run {
  readonly snapshot: RolloutSnapshot
  readonly nowMs: number
  readonly availability: Availability
  readonly clocks: WallClocks
  readonly versions: ClusterVersions
  readonly lastSteps: LastSteps
  readonly servers: Servers
  readonly placements: Placements
  /** By cluster the server that goes after the others. */
  readonly last: ReadonlyMap<string, string>
  fetching: number
  readonly grants: NewGrant[]
  readonly opened: NewOverride[]
}

/** The rollout after what is over was closed. A failure stops it before anything else of it is granted. */
function stand(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  closings: Closing[],
  nowMs: number,
): Standing {
  const standing = new Standing(rollout)
  for (const host of rollout.hosts) {
    const closed = closeGrants(snapshot, rollout, host, closings, nowMs)
    if (closed !== host) standing.change(closed)
  }
  if (rollout.state === 'ending' || !isStopped(standing)) return standing
  return new Standing({ ...standing.record(), state: 'ending', endsAs: 'failed' })
}

function closeGrants(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  closings: Closing[],
  nowMs: number,
): HostRecord {
  let current = host
  for (const [index, grant] of host.grants.entries()) {
    if (grant.end) continue
    const end = judgeGrant(snapshot, rollout, current, grant, nowMs)
    if (!end) continue
    closings.push({ rollout: rollout.id, host: host.host, grant: grant.id, end })
    const closed: Grant = { ...grant, end: { ...end, atMs: nowMs } }
    current = { ...current, grants: current.grants.with(index, closed) }
  }
  return current
}

function movedTo(standing: Standing): RolloutMove {
  const { id, endsAs } = standing.rollout
  const [reason = ''] = failuresOf(standing)
  return { rollout: id, state: 'ending', endsAs, reason, revert: false }
}

function isFetching(standing: Standing, name: string): boolean {
  const progress = standing.progress(name)
  return progress?.kind === 'waiting' && progress.open?.step === 'prefetch'
}

function planRollout(run: Run, standing: Standing): ReadonlyMap<string, readonly Wait[]> {
  const { snapshot } = run
  const { hosts } = standing.rollout
  const predecessors = new Predecessors(hosts, snapshot.follows, run.last)
  const waits = new Map<string, readonly Wait[]>()
  for (const { host: name } of hosts) {
    for (let step = 0; step < MOST_STEPS; step++) {
      const held = planHost(run, standing, predecessors, name)
      if (held === 'granted') continue
      if (held.length > 0) waits.set(name, held)
      break
    }
  }
  return waits
}

/** Grants a host its next step, or says why not; nothing to say: there is none, or one is under way. */
function planHost(
  run: Run,
  standing: Standing,
  predecessors: Predecessors,
  name: string,
): 'granted' | readonly Wait[] {
  const { snapshot, nowMs } = run
  const { rollout } = standing
  const host = standing.host(name)
  const progress = standing.progress(name)
  if (!host || !progress) return []
  const next = nextStep(snapshot, rollout, host, progress)
  if (next === undefined) {
    const waits = soakWait(rollout, host, progress) ?? askWait(snapshot, progress)
    return waits ? [waits] : []
  }
  const skipped = whyNotNeeded(snapshot, rollout, host, next)
  if (skipped !== undefined) return grant(run, standing, host, next, skipped)
  const { availability, clocks, versions, lastSteps, servers, placements } = run
  const view = snapshot.hosts.get(name)
  const fresh = progress.kind === 'waiting'
  const step = next
  const input: GateInput = {
    snapshot,
    rollout,
    host,
    view,
    step,
    fresh,
    availability,
    standing,
    predecessors,
    clocks,
    versions,
    lastSteps,
    servers,
    placements,
    nowMs,
  }
  const held = waitsOf(input)
  const retry = retryWait(snapshot, host, next, nowMs)
  if (retry) held.push(retry)
  if (held.length === 0) {
    const over = whyNotAnyMore(snapshot, rollout, host, next)
    if (over !== undefined) return grant(run, standing, host, next, over)
    const stale = whatIsStale(snapshot, rollout, host, next, nowMs) ?? next
    if (stale !== 'prefetch' || run.fetching < MOST_FETCHING) {
      if (fresh && isDisruptive(stale)) goPastBudget(run, rollout, host)
      return grant(run, standing, host, stale, undefined)
    }
    const reason = `${MOST_FETCHING} hosts fetch and build now, which is as many as do at once`
    return [{ gate: 'fetching', reason, opens: 'one of them is done' }]
  }
  if (snapshot.halted === undefined && isHandedBack(host, progress, held, nowMs)) {
    return grant(run, standing, host, 'uncordon', whyNotNeeded(snapshot, rollout, host, 'uncordon'))
  }
  return held
}

/** Takes down that a host is begun with past its budget, if it is. What an operator has opened is on record already. */
function goPastBudget({ availability, opened }: Run, rollout: RolloutRecord, host: HostRecord): void {
  if (whyPassed(rollout, 'budget') !== undefined || rollout.overrides.has(`${host.host} budget`)) return
  const why = availability.pastWhoIsOff(rollout, host)
  if (why !== undefined) opened.push({ rollout: rollout.id, host: host.host, gate: 'budget', why })
}

function grant(
  run: Run,
  standing: Standing,
  host: HostRecord,
  step: StepKind,
  skipped: string | undefined,
): 'granted' {
  const { snapshot, nowMs, availability, grants } = run
  const { rollout } = standing
  const machine = snapshot.hosts.get(host.host)?.machine ?? host.machine ?? ''
  const attempt = nextAttempt(host, step)
  grants.push({ rollout: rollout.id, host: host.host, machine, step, attempt, skipped })
  standing.grant(host.host, {
    id: 0,
    step,
    attempt,
    grantedMs: nowMs,
    operation: '',
    end: skipped === undefined ? undefined : { outcome: 'skipped', reason: skipped, atMs: nowMs },
  })
  if (skipped === undefined && isDisruptive(step)) availability.move(rollout, host)
  if (skipped === undefined && step === 'prefetch') run.fetching += 1
  return 'granted'
}
