import type { Closing } from './decision.ts'
import { newestGrants } from './host-steps.ts'
import type { Grant, HostRecord, RolloutRecord } from './rollout-record.ts'
import type { HostView, MemberView, RolloutSnapshot } from './rollout-snapshot.ts'

/** How long a node may take to be Ready at what it was moved to. */
export const PROVE_LIMIT_MS = 15 * 60_000
/** How often a host may cease to be well while it soaks. */
export const MOST_SOAKS = 10

type End = Closing['end']

/** How a grant that is under way ends, if it does; undefined: it goes on. */
export function judgeGrant(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  grant: Grant,
  nowMs: number,
): End | undefined {
  switch (grant.step) {
    case 'prove':
      return judgeProof(snapshot, rollout, host, grant, nowMs)
    case 'soak':
      return judgeSoak(snapshot, rollout, host, grant, nowMs)
    case 'prefetch':
    case 'snapshot':
    case 'drain':
    case 'act':
    case 'uncordon':
      return judgeOperation(snapshot, grant)
  }
}

function judgeOperation({ operations }: RolloutSnapshot, grant: Grant): End | undefined {
  const operation = operations.get(grant.operation)
  if (!operation || operation.state === 'missing') {
    return { outcome: 'failed', reason: `operation ${grant.operation} is not on record any more` }
  }
  switch (operation.state) {
    case 'open':
      return undefined
    case 'done':
      return { outcome: 'done', reason: operation.reason }
    case 'failed':
      return { outcome: 'failed', reason: operation.reason }
    case 'retry':
      return {
        outcome: grant.attempt <= operation.retryDelaysMs.length ? 'again' : 'failed',
        reason: operation.reason,
      }
  }
}

/** Ready, at the wanted version, by an answer to a question asked after the act was over: nothing older proves anything. */
function judgeProof(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  grant: Grant,
  nowMs: number,
): End | undefined {
  const member = memberOf(snapshot, host)
  const actedMs = newestGrants(host).get('act')?.end?.atMs ?? grant.grantedMs
  const wanted =
    rollout.action === 'apply' || rollout.action === 'upgrade' ? member?.wantedVersion : undefined
  const isNew = member !== undefined && member.asOfMs > actedMs
  if (isNew && member.ready === true && (wanted === undefined || member.version === wanted)) {
    return { outcome: 'done', reason: `Ready at ${member.version ?? 'an unknown version'}` }
  }
  if (nowMs - grant.grantedMs < PROVE_LIMIT_MS) return undefined
  const seen = !isNew
    ? 'nobody has seen its node since'
    : member.ready === true
      ? `its node runs ${member.version ?? 'an unknown version'}, not ${wanted}`
      : 'its node is not Ready'
  return { outcome: 'failed', reason: `not proved within ${PROVE_LIMIT_MS / 60_000} min: ${seen}` }
}

/** A host soaks while it is seen to be well. Silence is not health: time in which it was away does not count. */
function judgeSoak(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  grant: Grant,
  nowMs: number,
): End | undefined {
  const soakMs = soakOf(rollout, host)
  const view = snapshot.hosts.get(host.host)
  if (soakMs === 0 || rollout.overrides.has(`${host.host} soak`)) return { outcome: 'done', reason: '' }
  const unwell = whyUnwell(snapshot, view, host)
  if (unwell !== undefined) {
    return grant.attempt < MOST_SOAKS
      ? { outcome: 'again', reason: unwell }
      : { outcome: 'failed', reason: `did not stay well: ${unwell}` }
  }
  const since = Math.max(grant.grantedMs, view?.connectedSinceMs ?? nowMs)
  return nowMs - since >= soakMs ? { outcome: 'done', reason: '' } : undefined
}

export function soakOf({ settings }: RolloutRecord, { canary }: HostRecord): number {
  return canary ? Math.max(settings.canarySoakMs, settings.soakMs) : settings.soakMs
}

/** Why a host cannot be said to be well; undefined: it is seen to be. */
export function whyUnwell(
  snapshot: RolloutSnapshot,
  view: HostView | undefined,
  host: HostRecord,
): string | undefined {
  if (!view?.connected) return 'it is not connected'
  if (view.held !== undefined) return view.held
  const member = memberOf(snapshot, host)
  if (!member?.joined) return undefined
  if (member.ready === undefined) return 'nobody can say whether its node is Ready'
  return member.ready ? undefined : 'its node is not Ready'
}

export function memberOf(snapshot: RolloutSnapshot, { cluster, host }: HostRecord): MemberView | undefined {
  return cluster === undefined ? undefined : snapshot.clusters.get(cluster)?.members.get(host)
}
