import { compareVersions, parseVersion } from '../../../shared/kubernetes/version.ts'
import type { Closing } from './decision.ts'
import { bringsRevision, newestGrants } from './host-steps.ts'
import { whyNotRenewed } from './new-evidence.ts'
import type { Grant, HostRecord, RolloutRecord } from './rollout-record.ts'
import type { HostView, MemberView, RolloutSnapshot } from './rollout-snapshot.ts'

/** How long a node may take to be Ready at what it was moved to. */
export const PROVE_LIMIT_MS = 15 * 60_000
/** How often a host may cease to be well while it soaks. */
export const MOST_SOAKS = 10
/** How long a host that ceased to be well is waited for. */
export const UNWELL_LIMIT_MS = 15 * 60_000

/** How long a cluster is asked again that would not begin what was granted. */
export const ASK_LIMIT_MS = 10 * 60_000
/** How often a node may refuse what failed there before, though it told of nothing that is in quarantine. */
const MOST_REFUSALS = 3
/** So long a coordinator looks before it says that something took too long: while none ran nobody could see its end. */
export const LOOKS_FIRST_MS = 2 * 60_000
/** A soak that is granted though its host is not well is judged by one of the next looks. */
const JUDGED_WITHIN_MS = 60_000

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
      return judgeOperation(snapshot, grant, nowMs)
  }
}

function judgeOperation(snapshot: RolloutSnapshot, grant: Grant, nowMs: number): End | undefined {
  const operation = snapshot.operations.get(grant.operation)
  // Granted, and not asked for yet: whoever starts next asks.
  if (!operation) return undefined
  switch (operation.state) {
    case 'missing':
      return { outcome: 'failed', reason: `operation ${grant.operation} is not on record any more` }
    case 'open':
      return undefined
    case 'unwilling':
      return isOver(snapshot, grant, ASK_LIMIT_MS, nowMs)
        ? { outcome: 'failed', reason: `not begun: ${operation.reason}` }
        : undefined
    case 'done':
      return { outcome: 'done', reason: operation.reason }
    case 'failed':
      // Nothing of ours is left to take back.
      if (grant.step === 'uncordon' && operation.othersCordon)
        return { outcome: 'done', reason: operation.reason }
      // Nothing new has failed: by the gate of its quarantine it is left behind until somebody lifts that.
      if (operation.quarantined && grant.attempt < MOST_REFUSALS)
        return { outcome: 'again', reason: operation.reason }
      return { outcome: 'failed', reason: operation.reason }
    case 'retry':
      return {
        outcome: grant.attempt <= operation.retryDelaysMs.length ? 'again' : 'failed',
        reason: operation.reason,
      }
  }
}

/**
 * Ready, at the wanted version, by an answer to a question asked after the act was over, and by a lease that its kubelet renewed since: nothing
 * older proves anything.
 */
function judgeProof(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  grant: Grant,
  nowMs: number,
): End | undefined {
  const member = memberOf(snapshot, host)
  const act = newestGrants(host).get('act')
  const actedMs = act?.end?.atMs ?? grant.grantedMs
  const wanted = bringsRevision(rollout.action)
    ? snapshot.hosts.get(host.host)?.versions.get(rollout.id)
    : undefined
  const isNew = member !== undefined && member.asOfMs > actedMs
  const disturbed = snapshot.operations.get(act?.operation ?? '')?.disturbed
  // A server without a kubelet has no Node: its own API server, which was asked after the act, speaks for it.
  const stale = member?.nodeless
    ? undefined
    : member?.evidence
      ? whyNotRenewed(member.evidence, actedMs, disturbed)
      : 'nobody can say when its kubelet renewed its lease'
  if (isNew && member.ready === true && !stale && (wanted === undefined || runs(member, wanted))) {
    return { outcome: 'done', reason: `Ready at ${member.version ?? member.kubelet ?? 'an unknown version'}` }
  }
  if (!isOver(snapshot, grant, PROVE_LIMIT_MS, nowMs)) return undefined
  const seen = !isNew
    ? 'nobody has seen its node since'
    : member.ready === true
      ? (stale ?? `its node runs ${member.version ?? member.kubelet ?? 'an unknown version'}, not ${wanted}`)
      : 'its node is not Ready'
  return { outcome: 'failed', reason: `not proved within ${PROVE_LIMIT_MS / 60_000} min: ${seen}` }
}

function isOver(
  { watchedSinceMs }: RolloutSnapshot,
  { grantedMs }: Grant,
  limitMs: number,
  nowMs: number,
): boolean {
  return nowMs - grantedMs >= limitMs && nowMs - watchedSinceMs >= LOOKS_FIRST_MS
}

/** Everything that says what it runs says this; nothing that says nothing is proved. */
function runs({ version, kubelet }: MemberView, wanted: string): boolean {
  const to = parseVersion(wanted)
  const said = [version, kubelet].filter(text => text !== undefined)
  return (
    said.length > 0 &&
    said.every(text => {
      const at = parseVersion(text)
      return at !== undefined && to !== undefined && compareVersions(at, to) === 0
    })
  )
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
    return grant.attempt < MOST_SOAKS && !isGrantedUnwell(host, grant, nowMs)
      ? { outcome: 'again', reason: unwell }
      : { outcome: 'failed', reason: `did not stay well: ${unwell}` }
  }
  const since = Math.max(grant.grantedMs, view?.connectedSinceMs ?? nowMs)
  return nowMs - since >= soakMs ? { outcome: 'done', reason: '' } : undefined
}

/**
 * Whether this soak was granted because its host had not been well for so long (`soakWaits`). One that was well when it was granted begins
 * to wait anew, however long ago it was that it was not well before.
 */
function isGrantedUnwell(host: HostRecord, grant: Grant, nowMs: number): boolean {
  const before = host.grants.findLast(({ step, end }) => step === 'soak' && end?.outcome === 'again')
  if (before?.end === undefined || before === grant) return false
  return grant.grantedMs - before.end.atMs >= UNWELL_LIMIT_MS && nowMs - grant.grantedMs < JUDGED_WITHIN_MS
}

/**
 * Until when a soak is not granted anew to a host that is not well; undefined: it may be granted. When it was not well for too long it is
 * granted all the same, and fails.
 */
export function soakWaits(
  snapshot: RolloutSnapshot,
  host: HostRecord,
  nowMs: number,
): { readonly reason: string; readonly untilMs: number } | undefined {
  const reason = whyUnwell(snapshot, snapshot.hosts.get(host.host), host)
  const last = newestGrants(host).get('soak')
  if (reason === undefined || last?.end?.outcome !== 'again') return undefined
  const untilMs = last.end.atMs + UNWELL_LIMIT_MS
  return nowMs < untilMs ? { reason, untilMs } : undefined
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
  // What joins only while it is being moved has a node that must be well from then on, too.
  const member = memberOf(snapshot, { host: host.host, cluster: host.cluster ?? view.cluster })
  if (host.cluster !== undefined && member?.joined === undefined)
    return 'nobody can say whether its node is Ready'
  if (!member?.joined) return undefined
  if (member.ready === undefined) return 'nobody can say whether its node is Ready'
  return member.ready ? undefined : 'its node is not Ready'
}

export function memberOf(
  snapshot: RolloutSnapshot,
  { cluster, host }: Pick<HostRecord, 'cluster' | 'host'>,
): MemberView | undefined {
  return cluster === undefined ? undefined : snapshot.clusters.get(cluster)?.members.get(host)
}
