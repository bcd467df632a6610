import { Availability } from './availability.ts'
import type { Closing, Decision, NewGrant, RolloutMove, Wait } from './decision.ts'
import { waitsOf } from './gates.ts'
import {
  hasCordoned,
  isDisruptive,
  newestGrants,
  nextAttempt,
  type Progress,
  progressOf,
} from './host-steps.ts'
import { judgeGrant, memberOf, soakOf } from './judge-grant.ts'
import { judgeRollout } from './judge-rollout.ts'
import type { Grant, HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'

/** Steps that one run may grant to one host: each but the last is over as it is granted. */
const MOST_STEPS = 12

/**
 * The one place that decides what rollouts do. It grants what may be done now, closes what is over, and says of everything else why it
 * waits. The same snapshot and time give the same decision; what it decided is in the next snapshot, so nothing is decided twice.
 */
export function planRollouts(snapshot: RolloutSnapshot, nowMs: number): Decision {
  const closings: Closing[] = []
  const closed = snapshot.rollouts.map(rollout => closeGrants(snapshot, rollout, closings, nowMs))
  const standing: RolloutSnapshot = { ...snapshot, rollouts: closed.map(judgedBefore) }
  const availability = new Availability(standing)
  const grants: NewGrant[] = []
  const moves: RolloutMove[] = []
  const waits = new Map<string, ReadonlyMap<string, readonly Wait[]>>()
  for (const rollout of standing.rollouts) {
    const planned = planRollout(standing, rollout, availability, nowMs)
    grants.push(...planned.grants)
    waits.set(rollout.id, planned.waits)
    const move = judgeRollout(standing, planned.rollout, planned.waits, nowMs)
    const before = snapshot.rollouts.find(({ id }) => id === rollout.id)
    if (move) moves.push(move)
    else if (before && before.state !== rollout.state) moves.push(movedTo(rollout))
  }
  return { grants, closings, moves, waits }
}

function movedTo(rollout: RolloutRecord): RolloutMove {
  const [failed] = failuresOf(rollout)
  return {
    rollout: rollout.id,
    state: 'ending',
    endsAs: rollout.endsAs,
    reason: failed ?? '',
    revert: false,
  }
}

/** A failure stops a rollout before anything else of it is granted. */
function judgedBefore(rollout: RolloutRecord): RolloutRecord {
  if (rollout.state === 'ending') return rollout
  const failures = failuresOf(rollout)
  const { onFailure, maxFailures } = rollout.settings
  const canaryFailed = rollout.hosts.some(host => host.canary && progressOf(rollout, host).kind === 'failed')
  const most = onFailure === 'continue' ? (maxFailures ?? Number.POSITIVE_INFINITY) : 1
  return failures.length >= most || canaryFailed ? { ...rollout, state: 'ending', endsAs: 'failed' } : rollout
}

function failuresOf(rollout: RolloutRecord): readonly string[] {
  return rollout.hosts.flatMap(host => {
    const progress = progressOf(rollout, host)
    if (progress.kind === 'failed') return [`${host.host}: ${progress.reason}`]
    return progress.kind === 'moving' && progress.failed && hasFailed(host) ? [`${host.host}: failed`] : []
  })
}

function hasFailed(host: HostRecord): boolean {
  return [...newestGrants(host).values()].some(({ end }) => end?.outcome === 'failed')
}

function closeGrants(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  closings: Closing[],
  nowMs: number,
): RolloutRecord {
  const hosts = rollout.hosts.map(host => {
    if (host.grants.every(({ end }) => end !== undefined)) return host
    const grants = host.grants.map(grant => {
      if (grant.end) return grant
      const end = judgeGrant(snapshot, rollout, host, grant, nowMs)
      if (!end) return grant
      closings.push({ rollout: rollout.id, host: host.host, grant: grant.id, end })
      return { ...grant, end: { ...end, atMs: nowMs } }
    })
    return { ...host, grants }
  })
  return { ...rollout, hosts }
}

function planRollout(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  availability: Availability,
  nowMs: number,
) {
  const grants: NewGrant[] = []
  const waits = new Map<string, readonly Wait[]>()
  const progress = new Map<string, Progress>(
    rollout.hosts.map(host => [host.host, progressOf(rollout, host)]),
  )
  const hosts = new Map(rollout.hosts.map(host => [host.host, host]))
  for (const { host: name } of rollout.hosts) {
    for (let step = 0; step < MOST_STEPS; step++) {
      const host = hosts.get(name)
      const standing = progress.get(name)
      if (!host || !standing) break
      const next = nextStep(snapshot, rollout, host, standing)
      if (next === undefined) {
        const soaks = soakWait(rollout, host, standing)
        if (soaks) waits.set(name, [soaks])
        break
      }
      const skipped = whyNotNeeded(snapshot, rollout, host, next)
      const held = waitsOf({
        snapshot,
        rollout,
        host,
        view: snapshot.hosts.get(name),
        step: next,
        fresh: standing.kind === 'waiting',
        availability,
        progress,
        nowMs,
      })
      const retry = skipped === undefined ? retryWait(snapshot, host, next, nowMs) : undefined
      const all = retry ? [...held, retry] : held
      if (skipped === undefined && all.length > 0) {
        waits.set(name, all)
        break
      }
      const machine = snapshot.hosts.get(name)?.machine ?? host.machine ?? ''
      const grant: Grant = {
        id: 0,
        step: next,
        attempt: nextAttempt(host, next),
        grantedMs: nowMs,
        operation: '',
        end: skipped === undefined ? undefined : { outcome: 'skipped', reason: skipped, atMs: nowMs },
      }
      grants.push({ rollout: rollout.id, host: name, machine, step: next, attempt: grant.attempt, skipped })
      const changed = { ...host, grants: [...host.grants, grant] }
      hosts.set(name, changed)
      progress.set(name, progressOf(rollout, changed))
      if (isDisruptive(next) && skipped === undefined)
        availability.take(name, `rollout ${rollout.id} moves it`)
    }
  }
  const planned = { ...rollout, hosts: rollout.hosts.map(host => hosts.get(host.host) ?? host) }
  return { grants, waits, rollout: planned }
}

/** What is to be granted to a host next; undefined: nothing, or something is under way. */
function nextStep(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  progress: Progress,
): StepKind | undefined {
  switch (progress.kind) {
    case 'done':
    case 'left':
      return undefined
    case 'failed':
      return progress.cordoned && mayLift(snapshot, host) && !newestGrants(host).has('uncordon')
        ? 'uncordon'
        : undefined
    case 'waiting':
      return progress.open || rollout.state === 'ending' ? undefined : progress.next
    case 'moving': {
      if (progress.open) return undefined
      if (rollout.state !== 'ending' || !isDisruptive(progress.next)) return progress.next
      return hasCordoned(newestGrants(host)) ? 'uncordon' : undefined
    }
  }
}

/** A cordon is lifted after a failure only when what ran before runs there: else a person looks first. */
function mayLift({ operations }: RolloutSnapshot, host: HostRecord): boolean {
  const act = newestGrants(host).get('act')
  if (!act) return true
  if (act.end?.outcome === 'done') return false
  return operations.get(act.operation)?.untouched ?? false
}

/** Why a step has nothing to do on this host; undefined: it has. */
function whyNotNeeded(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  step: StepKind,
): string | undefined {
  const joined = memberOf(snapshot, host)?.joined === true
  const newest = newestGrants(host)
  switch (step) {
    case 'prefetch':
      // Without anything to drain the act itself fetches and builds before it touches anything.
      return joined || rollout.settings.prefetch ? undefined : 'nothing is drained for it'
    case 'snapshot':
      return joined ? undefined : 'no datastore runs there'
    case 'drain': {
      if (!joined) return 'it runs no pods'
      if (rollout.action !== 'apply') return undefined
      const plan = snapshot.operations.get(newest.get('prefetch')?.operation ?? '')?.plan
      // What is not known may be anything.
      return plan === undefined || plan.reboots || plan.touchesKubernetes
        ? undefined
        : 'nothing of Kubernetes is restarted'
    }
    case 'prove':
      return joined || newest.get('drain')?.end?.outcome === 'done' ? undefined : 'it runs no Kubernetes'
    case 'uncordon':
      return hasCordoned(newest) ? undefined : 'we did not cordon it'
    case 'act':
    case 'soak':
      return undefined
  }
}

/** Until when a host soaks at least, for whoever looks. */
function soakWait(rollout: RolloutRecord, host: HostRecord, progress: Progress): Wait | undefined {
  if (progress.kind !== 'moving' || progress.open?.step !== 'soak') return undefined
  const until = new Date(progress.open.grantedMs + soakOf(rollout, host)).toISOString()
  return {
    gate: 'soak',
    reason: 'it must stay well for a while',
    opens: `it is ${until} and it was well all the time`,
  }
}

/** How long what did not hold is waited with before it is tried again. */
function retryWait(
  { operations }: RolloutSnapshot,
  host: HostRecord,
  step: StepKind,
  nowMs: number,
): Wait | undefined {
  const before = newestGrants(host).get(step)
  if (before?.end?.outcome !== 'again') return undefined
  const delay = operations.get(before.operation)?.retryDelaysMs[before.attempt - 1] ?? 0
  const at = before.end.atMs + delay
  if (at <= nowMs) return undefined
  const reason = `it is tried again: ${before.end.reason}`
  return { gate: 'retry', reason, opens: `it is ${new Date(at).toISOString()}` }
}
