import type { Wait } from './decision.ts'
import { isDisruptive, nextAttempt, stepsOf } from './host-steps.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { Grant, HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { MemberView, RolloutSnapshot } from './rollout-snapshot.ts'

/** One host of a rollout that is only thought through. */
export interface ForeseenHost {
  readonly host: string
  /** Those of one number may go together; undefined: its turn does not come as things stand, or is too far away to be thought through. */
  readonly wave: number | undefined
  readonly steps: readonly StepKind[]
  /** What would hold it now. */
  readonly waits: readonly Wait[]
}

/** So many hosts are looked at altogether, over all waves: the coordinator does other things beside. */
const MOST_LOOKS = 500_000
const LEAST_WAVES = 20
/** Gates that time or a person opens: they do not change the order. */
const OPENED = ['window', 'silence', 'checks', 'jobs'] as const

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
  // Fetching is done at any time, and changes nothing of the order.
  current = { ...current, hosts: current.hosts.map(host => withDone(host, ['prefetch'], nowMs)) }
  let world = snapshot
  const mostWaves = Math.max(LEAST_WAVES, Math.floor(MOST_LOOKS / Math.max(1, rollout.hosts.length)))
  for (let wave = 1; wave <= mostWaves; wave++) {
    const { grants } = planRollouts({ ...world, rollouts: [...world.rollouts, current] }, nowMs)
    const begun = new Set(
      grants
        .filter(grant => grant.rollout === rollout.id && isDisruptive(grant.step))
        .map(({ host }) => host),
    )
    if (begun.size === 0) break
    for (const host of begun) waves.set(host, wave)
    const hosts = current.hosts.map(host =>
      begun.has(host.host) ? withDone(host, stepsOf(rollout, host), nowMs) : host,
    )
    current = { ...current, hosts }
    world = withVersions(world, rollout.id, begun)
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

/** The world in which these hosts run what the rollout brings them. */
function withVersions(
  snapshot: RolloutSnapshot,
  rollout: string,
  hosts: ReadonlySet<string>,
): RolloutSnapshot {
  const changed = new Map<string, Map<string, MemberView>>()
  for (const host of hosts) {
    const view = snapshot.hosts.get(host)
    const version = view?.versions.get(rollout)
    const cluster = snapshot.clusters.get(view?.cluster ?? '')
    const member = cluster?.members.get(host)
    if (version === undefined || !cluster || !member) continue
    const members = changed.get(cluster.name) ?? new Map(cluster.members)
    members.set(host, { ...member, version, kubelet: version })
    changed.set(cluster.name, members)
  }
  if (changed.size === 0) return snapshot
  const clusters = [...snapshot.clusters].map(([name, cluster]) => {
    const members = changed.get(name)
    return [name, members ? { ...cluster, members } : cluster] as const
  })
  return { ...snapshot, clusters: new Map(clusters) }
}

/** Steps that will be taken by all that is known now; a drain is shown where it may be needed. */
function neededSteps(
  { clusters }: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
): readonly StepKind[] {
  // What nobody can say may be anything.
  const joined =
    host.cluster !== undefined && clusters.get(host.cluster)?.members.get(host.host)?.joined !== false
  return stepsOf(rollout, host).filter(step => {
    if (step === 'prefetch') return joined || rollout.settings.prefetch
    if (step === 'soak') return rollout.settings.soakMs > 0
    return step === 'act' || joined
  })
}
