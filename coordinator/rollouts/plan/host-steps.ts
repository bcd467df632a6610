import type { Grant, HostRecord, RolloutAction, RolloutRecord, StepKind } from './rollout-record.ts'

/** Actions that are operations of the node and may take it away for a while. */
const MOVES: readonly RolloutAction[] = ['apply', 'rollback', 'reboot', 'restart', 'upgrade']

export function isMove(action: RolloutAction): boolean {
  return MOVES.includes(action)
}

/** Actions that bring another system, or another Kubernetes. */
export function bringsRevision(action: RolloutAction): boolean {
  return action === 'apply' || action === 'upgrade'
}

/** Steps of a host in order. Which of them are needed is found when their turn comes. */
export function stepsOf(
  { action, settings }: Pick<RolloutRecord, 'action' | 'settings'>,
  { cluster, server }: Pick<HostRecord, 'cluster' | 'server'>,
): readonly StepKind[] {
  if (!isMove(action)) return ['act']
  const changes = bringsRevision(action)
  const inCluster = cluster !== undefined
  return [
    ...(changes && (settings.prefetch || inCluster) ? (['prefetch'] as const) : []),
    ...(changes && inCluster && server ? (['snapshot'] as const) : []),
    ...(inCluster ? (['drain'] as const) : []),
    'act',
    ...(inCluster ? (['prove'] as const) : []),
    'soak',
    ...(inCluster ? (['uncordon'] as const) : []),
  ]
}

/** Steps that wait for every gate: with them a host is taken out of use, or that is about to happen. */
export function isDisruptive(step: StepKind): boolean {
  return step === 'snapshot' || step === 'drain' || step === 'act'
}

/** Where a host of a rollout stands, by its grants alone. */
export type Progress =
  /** Nothing that disrupts it was granted, or it was handed back. */
  | { readonly kind: 'waiting'; readonly next: StepKind; readonly open: Grant | undefined }
  /** It is away, or may be: it uses the budget. `failed`: only what we did to it is still taken back. */
  | {
      readonly kind: 'moving'
      readonly next: StepKind
      readonly open: Grant | undefined
      readonly failed: boolean
    }
  | { readonly kind: 'done'; readonly atMs: number }
  | { readonly kind: 'failed'; readonly reason: string; readonly atMs: number; readonly cordoned: boolean }
  /** The rollout ended before it was done, and what we did to it was taken back. */
  | { readonly kind: 'left'; readonly atMs: number }

/** The newest grant of each step since the host was last handed back. */
export function newestGrants(host: Pick<HostRecord, 'grants'>): ReadonlyMap<StepKind, Grant> {
  const newest = new Map<StepKind, Grant>()
  const { grants } = host
  for (let at = roundsOf(host).from; at < grants.length; at++) {
    const grant = grants[at]
    if (!grant) continue
    // A plan that was made anew may be of more than the one by which there was nothing to drain.
    if (grant.step === 'prefetch') newest.delete('drain')
    newest.set(grant.step, grant)
  }
  return newest
}

/**
 * How often a host was handed back: its cordon was lifted before the action had begun, since a gate had closed meanwhile. All its steps are
 * granted anew after that. `from`: the first grant that counts.
 */
export function roundsOf({ grants }: Pick<HostRecord, 'grants'>): {
  readonly count: number
  readonly from: number
} {
  let from = 0
  let count = 0
  let acted = false
  if (!grants.some(({ step }) => step === 'uncordon')) return { count, from }
  for (let at = 0; at < grants.length; at++) {
    const grant = grants[at]
    if (!grant) continue
    const outcome = grant.end?.outcome
    acted ||= outcome === 'failed' || (grant.step === 'act' && outcome !== 'again')
    if (grant.step !== 'uncordon' || acted || !grant.end) continue
    from = at + 1
    count += 1
  }
  return { count, from }
}

export function progressOf(rollout: RolloutRecord, host: HostRecord): Progress {
  const newest = newestGrants(host)
  const uncordon = newest.get('uncordon')
  let failed: Grant | undefined
  for (const grant of newest.values()) if (grant.end?.outcome === 'failed') failed ??= grant
  if (uncordon && !uncordon.end) {
    return { kind: 'moving', next: 'uncordon', open: uncordon, failed: failed !== undefined }
  }
  if (failed?.end) {
    const cordoned = hasCordoned(newest) && (uncordon === undefined || uncordon.end?.outcome === 'failed')
    const { reason, atMs } = failed.end
    return { kind: 'failed', reason, atMs, cordoned }
  }
  const act = newest.get('act')
  // What did not hold left everything as it was: only a drain before it still keeps the host away.
  const begun =
    hasCordoned(newest) ||
    (act !== undefined && act.end?.outcome !== 'skipped' && act.end?.outcome !== 'again')
  let atMs = rollout.startedMs
  for (const step of stepsOf(rollout, host)) {
    const grant = newest.get(step)
    const end = grant?.end
    if (!end || end.outcome === 'again') {
      if (!begun && rollout.state === 'ending' && !(grant && !end) && roundsOf(host).count > 0) {
        return { kind: 'left', atMs: host.grants.at(-1)?.end?.atMs ?? atMs }
      }
      const open = end ? undefined : grant
      return begun
        ? { kind: 'moving', next: step, open, failed: false }
        : { kind: 'waiting', next: step, open }
    }
    atMs = end.atMs
  }
  return { kind: 'done', atMs }
}

/** Whether a cordon of ours may be on its node: also a drain that failed has cordoned. */
export function hasCordoned(newest: ReadonlyMap<StepKind, Grant>): boolean {
  const drain = newest.get('drain')
  return drain !== undefined && drain.end?.outcome !== 'skipped'
}

/** The attempt that the next grant of a step is. Counted over all rounds, so that no grant is ever written twice. */
export function nextAttempt({ grants }: Pick<HostRecord, 'grants'>, step: StepKind): number {
  return 1 + grants.reduce((most, grant) => (grant.step === step ? Math.max(most, grant.attempt) : most), 0)
}
