import type { Wait } from './decision.ts'
import { isDisruptive, nextAttempt, stepsOf } from './host-steps.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { Grant, HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'

/** One host of a rollout that is only thought through. */
export interface ForeseenHost {
  readonly host: string
  /** Those of one number may go together; undefined: its turn does not come as things stand. */
  readonly wave: number | undefined
  readonly steps: readonly StepKind[]
  /** What would hold it now. */
  readonly waits: readonly Wait[]
}

/** Waves that are thought through; more than any fleet has. */
const MOST_WAVES = 20_000
/** Gates that time or a person opens: they do not change the order. */
const OPENED = ['window', 'silence'] as const

/**
 * The order of a rollout, found by the planner itself: whatever it grants is taken as done, again and again, as if time stood still and
 * everything went well.
 */
export function foresee(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  nowMs: number,
): readonly ForeseenHost[] {
  const first = planRollouts({ ...snapshot, rollouts: [...snapshot.rollouts, rollout] }, nowMs)
  const waits = first.waits.get(rollout.id)
  const opened = new Set(rollout.hosts.flatMap(({ host }) => OPENED.map(gate => `${host} ${gate}`)))
  const waves = new Map<string, number>()
  let current: RolloutRecord = { ...rollout, after: [], overrides: opened }
  for (let wave = 1; wave <= MOST_WAVES; wave++) {
    const { grants } = planRollouts({ ...snapshot, rollouts: [...snapshot.rollouts, current] }, nowMs)
    const granted = new Set(grants.filter(grant => grant.rollout === rollout.id).map(({ host }) => host))
    if (granted.size === 0) break
    const begun = new Set<string>()
    const hosts = current.hosts.map(host => {
      if (!granted.has(host.host)) return host
      const steps = grants.filter(grant => grant.host === host.host).map(({ step }) => step)
      if (!steps.some(isDisruptive)) return withDone(host, steps, nowMs)
      begun.add(host.host)
      return withDone(host, stepsOf(rollout, host), nowMs)
    })
    for (const host of begun) waves.set(host, wave)
    // Fetching alone is no wave: it is done at any time.
    if (begun.size === 0) wave -= 1
    current = { ...current, hosts }
  }
  const order = new Map(rollout.hosts.map(({ host }, position) => [host, position]))
  const place = (host: string) => waves.get(host) ?? Number.MAX_SAFE_INTEGER
  return rollout.hosts
    .map(host => ({
      host: host.host,
      wave: waves.get(host.host),
      steps: neededSteps(snapshot, rollout, host),
      waits: waits?.get(host.host) ?? [],
    }))
    .toSorted((a, b) => place(a.host) - place(b.host) || (order.get(a.host) ?? 0) - (order.get(b.host) ?? 0))
}

function withDone(host: HostRecord, steps: readonly StepKind[], nowMs: number): HostRecord {
  const done = new Set(host.grants.map(({ step }) => step))
  const grants = steps
    .filter(step => !done.has(step))
    .map(
      (step): Grant => ({
        id: 0,
        step,
        attempt: nextAttempt(host, step),
        grantedMs: nowMs,
        operation: '',
        end: { outcome: 'done', reason: '', atMs: nowMs },
      }),
    )
  return { ...host, grants: [...host.grants, ...grants] }
}

/** Steps that will be taken by all that is known now; a drain is shown where it may be needed. */
function neededSteps(
  { clusters }: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
): readonly StepKind[] {
  const joined =
    host.cluster !== undefined && clusters.get(host.cluster)?.members.get(host.host)?.joined === true
  return stepsOf(rollout, host).filter(step => {
    if (step === 'prefetch') return joined || rollout.settings.prefetch
    if (step === 'soak') return rollout.settings.soakMs > 0
    return step === 'act' || joined
  })
}
