import type { Wait } from './decision.ts'
import { isHolding, isLong } from './gates.ts'
import { hasCordoned, isDisruptive, newestGrants, type Progress } from './host-steps.ts'
import { ASK_LIMIT_MS, soakOf, soakWaits } from './judge-grant.ts'
import type { HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'
import { whyNotAnyMore, whyNotNeeded } from './why-not-needed.ts'

/** A drained host that is held before its turn to act goes back to work after so long. */
export const HAND_BACK_MS = 5 * 60_000
/** A plan that is older says little of what would be restarted now. */
export const PLAN_FRESH_MS = 24 * 60 * 60_000
/** Within that time a node has said which system it runs: it looks every minute. */
export const STATUS_DELAY_MS = 2 * 60_000
/** A snapshot of the datastore that is older is made anew before its server is touched. */
export const SNAPSHOT_FRESH_MS = 60 * 60_000

/** What is to be granted to a host next; undefined: nothing, or something is under way. */
export function nextStep(
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

/** A step that must be done anew before this one, since what it brought is old; undefined: none. */
export function whatIsStale(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  step: StepKind,
  nowMs: number,
): StepKind | undefined {
  if (!isDisruptive(step)) return undefined
  const newest = newestGrants(host)
  // Whoever ran nothing of its cluster then may have joined while it waited for its turn.
  const isNeededNow = (earlier: StepKind) =>
    newest.get(earlier)?.end?.outcome === 'skipped' &&
    whyNotNeeded(snapshot, rollout, host, earlier) === undefined &&
    whyNotAnyMore(snapshot, rollout, host, earlier) === undefined
  const act = newest.get('act')
  if (step === 'act' && (act === undefined || act.end?.outcome === 'again')) {
    const earlier = (['snapshot', 'drain'] as const).find(isNeededNow)
    if (earlier !== undefined) return earlier
  }
  if (newest.get('drain')?.end?.outcome === 'done' || newest.get('act')) return undefined
  const isOld = (earlier: StepKind, mostMs: number) => {
    const end = newest.get(earlier)?.end
    return end?.outcome === 'done' && nowMs - end.atMs > mostMs
  }
  if (isOld('prefetch', PLAN_FRESH_MS)) return 'prefetch'
  // A node tells which system runs there a moment after its plan.
  if (isOld('prefetch', STATUS_DELAY_MS) && isOfAnother(snapshot, host)) return 'prefetch'
  return step !== 'snapshot' && isOld('snapshot', SNAPSHOT_FRESH_MS) ? 'snapshot' : undefined
}

/** Whether the plan is certainly of another system than runs there now: somebody has rebuilt it by hand since. */
function isOfAnother({ operations, hosts }: RolloutSnapshot, host: HostRecord): boolean {
  const { from } = operations.get(newestGrants(host).get('prefetch')?.operation ?? '')?.plan ?? {}
  const system = hosts.get(host.host)?.system
  return from !== undefined && system !== undefined && from !== system
}

/** Whether a host that was drained, and whose act is held, is given back now. All its steps begin anew after that. */
export function isHandedBack(
  host: HostRecord,
  progress: Progress,
  waits: readonly Wait[],
  nowMs: number,
): boolean {
  if (progress.kind !== 'moving' || progress.next !== 'act') return false
  const newest = newestGrants(host)
  if (!hasCordoned(newest) || newest.has('uncordon')) return false
  const holding = waits.filter(isHolding)
  if (holding.some(isLong)) return true
  let sinceMs = 0
  for (const { end } of newest.values()) sinceMs = Math.max(sinceMs, end?.atMs ?? 0)
  return holding.length > 0 && nowMs - sinceMs >= HAND_BACK_MS
}

/** Until when a host soaks at least, for whoever looks. */
export function soakWait(rollout: RolloutRecord, host: HostRecord, progress: Progress): Wait | undefined {
  if (progress.kind !== 'moving' || progress.open?.step !== 'soak') return undefined
  const until = new Date(progress.open.grantedMs + soakOf(rollout, host)).toISOString()
  return {
    gate: 'soak',
    reason: 'it must stay well for a while',
    opens: `it is ${until} and it was well all the time`,
  }
}

/** What its cluster says against an act that was granted and not begun. */
export function askWait({ operations }: RolloutSnapshot, progress: Progress): Wait | undefined {
  const open = progress.kind === 'moving' || progress.kind === 'waiting' ? progress.open : undefined
  const operation = operations.get(open?.operation ?? '')
  if (!open || operation?.state !== 'unwilling') return undefined
  const until = new Date(open.grantedMs + ASK_LIMIT_MS).toISOString()
  return {
    gate: 'refused',
    reason: operation.reason,
    opens: `its cluster would begin it; it is asked again until ${until}`,
  }
}

/** How long what did not hold is waited with before it is tried again. */
export function retryWait(
  snapshot: RolloutSnapshot,
  host: HostRecord,
  step: StepKind,
  nowMs: number,
): Wait | undefined {
  if (step === 'soak') {
    const held = soakWaits(snapshot, host, nowMs)
    if (!held) return undefined
    const opens = `it is well again before ${new Date(held.untilMs).toISOString()}, or it has failed`
    return { gate: 'retry', reason: held.reason, opens }
  }
  if (!host.grants.some(({ end }) => end?.outcome === 'again')) return undefined
  const before = newestGrants(host).get(step)
  if (before?.end?.outcome !== 'again') return undefined
  const delay = snapshot.operations.get(before.operation)?.retryDelaysMs[before.attempt - 1] ?? 0
  const at = before.end.atMs + delay
  if (at <= nowMs) return undefined
  const reason = `it is tried again: ${before.end.reason}`
  return { gate: 'retry', reason, opens: `it is ${new Date(at).toISOString()}` }
}
