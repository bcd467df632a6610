import type { Grant, HostRecord, RolloutAction, RolloutRecord, StepKind } from './rollout-record.ts'

/** Actions that are operations of the node and may take it away for a while. */
const MOVES: readonly RolloutAction[] = ['apply', 'rollback', 'reboot', 'upgrade']

/** Steps of a host in order. Which of them are needed is found when their turn comes. */
export function stepsOf(
  { action, settings }: Pick<RolloutRecord, 'action' | 'settings'>,
  { cluster, server }: Pick<HostRecord, 'cluster' | 'server'>,
): readonly StepKind[] {
  if (!MOVES.includes(action)) return ['act']
  const changes = action === 'apply' || action === 'upgrade'
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

/** Steps by which something begins that disrupts the host. */
export function isDisruptive(step: StepKind): boolean {
  return step === 'snapshot' || step === 'drain' || step === 'act'
}

/** Where a host of a rollout stands, by its grants alone. */
export type Progress =
  /** Nothing that disrupts it was granted. */
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

/** The newest grant of each step. */
export function newestGrants({ grants }: Pick<HostRecord, 'grants'>): ReadonlyMap<StepKind, Grant> {
  return new Map(grants.map(grant => [grant.step, grant]))
}

export function progressOf(rollout: RolloutRecord, host: HostRecord): Progress {
  const newest = newestGrants(host)
  // What did not hold left everything as it was: only a drain before it still keeps the host away.
  const begun = [...newest.values()].some(
    ({ step, end }) => isDisruptive(step) && end?.outcome !== 'skipped' && end?.outcome !== 'again',
  )
  const uncordon = newest.get('uncordon')
  if (uncordon && !uncordon.end) {
    const act = newest.get('act')?.end?.outcome
    return { kind: 'moving', next: 'uncordon', open: uncordon, failed: act !== 'done' }
  }
  let atMs = rollout.startedMs
  for (const step of stepsOf(rollout, host)) {
    const grant = newest.get(step)
    const end = grant?.end
    if (end?.outcome === 'failed') {
      const lifted = uncordon?.end?.outcome === 'done' || uncordon?.end?.outcome === 'skipped'
      return { kind: 'failed', reason: end.reason, atMs: end.atMs, cordoned: hasCordoned(newest) && !lifted }
    }
    if (!end || end.outcome === 'again') {
      // Lifted before its turn: the rollout was ending.
      if (uncordon?.end) return { kind: 'left', atMs: uncordon.end.atMs }
      const open = end ? undefined : grant
      return begun || isOpenDisruption(open)
        ? { kind: 'moving', next: step, open, failed: false }
        : { kind: 'waiting', next: step, open }
    }
    atMs = end.atMs
  }
  return { kind: 'done', atMs }
}

function isOpenDisruption(grant: Grant | undefined): boolean {
  return grant !== undefined && isDisruptive(grant.step)
}

/** Whether a cordon of ours may be on its node: also a drain that failed has cordoned. */
export function hasCordoned(newest: ReadonlyMap<StepKind, Grant>): boolean {
  const drain = newest.get('drain')
  return drain !== undefined && drain.end?.outcome !== 'skipped'
}

/** The attempt that the next grant of a step is. */
export function nextAttempt({ grants }: Pick<HostRecord, 'grants'>, step: StepKind): number {
  return 1 + grants.reduce((most, grant) => (grant.step === step ? Math.max(most, grant.attempt) : most), 0)
}
