import { countOf } from '../../../shared/rollout/amount.ts'
import type { GateName, Wait } from './decision.ts'
import { isDisruptive, nextAttempt, stepsOf } from './host-steps.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { Grant, HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { MemberView, RolloutSnapshot } from './rollout-snapshot.ts'
import { whyNotNeeded } from './why-not-needed.ts'

/** One host of a rollout that is only thought through. */
export interface ForeseenHost {
  readonly host: string
  /** Those of one number may go together; undefined: its turn does not come as things stand, or it was not thought through as far. */
  readonly wave: number | undefined
  readonly steps: readonly StepKind[]
  /** Pods are moved off it; undefined: nobody can say before it is planned. */
  readonly drained: boolean | undefined
  /** What would hold it now. */
  readonly waits: readonly Wait[]
}

/** Gates that time or a person opens: they do not change the order. */
const OPENED = ['window', 'silence', 'checks', 'jobs'] as const
/** Gates that open as others are done. Whoever is held at none of these is held for good, as things stand. */
const OF_ORDER: ReadonlySet<GateName> = new Set([
  ...(['order', 'cluster', 'servers', 'canary', 'budget', 'spread', 'quorum', 'skew'] as const),
])
/** Hosts of a kind that are looked at in each wave beyond those that may go: some may turn out to be held. */
const SPARE = 8

/**
 * The order of a rollout, found by the planner itself: whatever it grants is taken as done, again and again, as if time stood still and
 * everything went well. One wave at a time, so that whoever asks may do other things in between, or may have had enough.
 *
 * In each wave the planner is shown those that could be next, and not the whole fleet again: of each kind (the workers of a cluster, what is
 * outside of clusters, each value of a label that is spread over) the first ones, as many as may go at once, and everybody for whom others wait.
 */
export class Foresight {
  readonly #snapshot: RolloutSnapshot
  readonly #rollout: RolloutRecord
  readonly #nowMs: number
  readonly #waits: ReadonlyMap<string, readonly Wait[]> | undefined
  readonly #waves = new Map<string, number>()
  /** Hosts whose turn has not come, as the planner is shown them, in their order. */
  readonly #undone: Map<string, HostRecord>
  /** They were looked at, and something else than the order holds them. */
  #held = new Set<string>()
  /** Others wait for them by name. */
  readonly #named: ReadonlySet<string>
  readonly #quotas: ReadonlyMap<string, number>
  readonly #settings: RolloutRecord
  readonly #plans: ReadonlyMap<string, string>
  #world: RolloutSnapshot
  #wave = 0

  /** `plans`: by host the operation of the snapshot that has planned it. */
  constructor(
    snapshot: RolloutSnapshot,
    rollout: RolloutRecord,
    nowMs: number,
    plans: ReadonlyMap<string, string> = new Map(),
  ) {
    this.#plans = plans
    this.#snapshot = snapshot
    this.#rollout = rollout
    this.#nowMs = nowMs
    this.#world = snapshot
    const first = planRollouts({ ...snapshot, rollouts: [...snapshot.rollouts, rollout] }, nowMs)
    this.#waits = first.waits.get(rollout.id)
    const opened = new Set(rollout.hosts.flatMap(({ host }) => OPENED.map(gate => `${host} ${gate}`)))
    this.#settings = { ...rollout, after: [], overrides: opened }
    // Fetching is done at any time, and changes nothing of the order.
    this.#undone = new Map(rollout.hosts.map(host => [host.host, withDone(host, ['prefetch'], nowMs)]))
    this.#named = new Set(rollout.hosts.flatMap(({ after }) => after))
    this.#quotas = this.#readQuotas()
  }

  /** Hosts whose turn may still come. */
  get left(): number {
    return this.#undone.size
  }

  /** Thinks one wave more through; false: nobody else's turn comes. */
  next(): boolean {
    const begun = this.#begin(this.#candidates()) ?? this.#begin([...this.#undone.values()])
    if (!begun) return false
    this.#wave += 1
    for (const host of begun) {
      this.#waves.set(host, this.#wave)
      this.#undone.delete(host)
    }
    this.#world = withVersions(this.#world, this.#rollout.id, begun)
    return this.#undone.size > 0
  }

  /** As far as it was thought through: hosts in the order in which they go, then those whose turn does not come. */
  order(): readonly ForeseenHost[] {
    const place = new Map(this.#rollout.hosts.map(({ host }, position) => [host, position]))
    const waveOf = (host: string) => this.#waves.get(host) ?? Number.MAX_SAFE_INTEGER
    return this.#rollout.hosts
      .map(host => ({
        host: host.host,
        wave: this.#waves.get(host.host),
        ...neededSteps(this.#snapshot, this.#rollout, host, this.#plans.get(host.host)),
        waits: this.#waits?.get(host.host) ?? [],
      }))
      .toSorted(
        (a, b) => waveOf(a.host) - waveOf(b.host) || (place.get(a.host) ?? 0) - (place.get(b.host) ?? 0),
      )
  }

  /** Whom the planner lets begin when it is shown these; undefined: nobody. */
  #begin(hosts: readonly HostRecord[]): ReadonlySet<string> | undefined {
    const current = { ...this.#settings, hosts }
    const { grants, waits } = planRollouts(
      { ...this.#world, rollouts: [...this.#world.rollouts, current] },
      this.#nowMs,
    )
    const begun = new Set(
      grants
        .filter(grant => grant.rollout === this.#rollout.id && isDisruptive(grant.step))
        .map(({ host }) => host),
    )
    for (const [host, held] of waits.get(this.#rollout.id) ?? []) {
      if (!begun.has(host) && !held.some(({ gate }) => OF_ORDER.has(gate))) this.#held.add(host)
    }
    return begun.size > 0 ? begun : undefined
  }

  #candidates(): readonly HostRecord[] {
    const taken = new Map<string, number>()
    const blocked = new Set<string>()
    return [...this.#undone.values()].filter(host => {
      if (host.canary || host.server || this.#named.has(host.host)) return true
      if (this.#held.has(host.host)) {
        // Clusters that go after this one wait for any of its hosts.
        if (host.cluster === undefined || blocked.has(host.cluster)) return false
        blocked.add(host.cluster)
        return true
      }
      const kind = this.#kindOf(host)
      const count = taken.get(kind) ?? 0
      taken.set(kind, count + 1)
      return count < (this.#quotas.get(kind) ?? 0)
    })
  }

  #kindOf({ host, cluster }: HostRecord): string {
    const label = this.#rollout.settings.spread
    const value = label === undefined ? undefined : this.#snapshot.hosts.get(host)?.labels[label]
    return `${cluster ?? ''}\0${value ?? ''}`
  }

  /** By kind how many may go at once, at most, and some more. */
  #readQuotas(): ReadonlyMap<string, number> {
    const sizes = new Map<string, number>()
    for (const { cluster, server } of this.#snapshot.hosts.values()) {
      if (!server) sizes.set(cluster ?? '', (sizes.get(cluster ?? '') ?? 0) + 1)
    }
    const { maxUnavailable, maxUnavailableAlone } = this.#rollout.settings
    const quotas = new Map<string, number>()
    for (const host of this.#rollout.hosts) {
      const amount = host.cluster === undefined ? maxUnavailableAlone : maxUnavailable
      quotas.set(this.#kindOf(host), countOf(amount, sizes.get(host.cluster ?? '') ?? 1) + SPARE)
    }
    return quotas
  }
}

/** The whole order. */
export function foresee(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  nowMs: number,
): readonly ForeseenHost[] {
  const foresight = new Foresight(snapshot, rollout, nowMs)
  while (foresight.next());
  return foresight.order()
}
function withDone(host: HostRecord, steps: readonly StepKind[], nowMs: number, operation = ''): HostRecord {
  const done = new Set(host.grants.map(({ step }) => step))
  const grants = steps
    .filter(step => !done.has(step))
    .map(
      (step): Grant => ({
        id: 0,
        step,
        attempt: nextAttempt(host, step),
        grantedMs: nowMs,
        operation,
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
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  plan: string | undefined,
): Pick<ForeseenHost, 'steps' | 'drained'> {
  const { clusters } = snapshot
  // What nobody can say may be anything.
  const joined =
    host.cluster !== undefined && clusters.get(host.cluster)?.members.get(host.host)?.joined !== false
  const drained = isDrained(snapshot, rollout, host, plan)
  const steps = stepsOf(rollout, host).filter(step => {
    if (step === 'prefetch') return joined || rollout.settings.prefetch
    if (step === 'soak') return rollout.settings.soakMs > 0
    if (step === 'drain' || step === 'uncordon') return joined && drained !== false
    return step === 'act' || joined
  })
  return { steps, drained }
}

/** Undefined: only a plan would tell. */
function isDrained(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  plan: string | undefined,
): boolean | undefined {
  if (!stepsOf(rollout, host).includes('drain')) return rollout.action === 'drain'
  const planned = withDone(host, ['prefetch'], 0, plan)
  if (whyNotNeeded(snapshot, rollout, planned, 'drain') !== undefined) return false
  return rollout.action !== 'apply' || plan !== undefined ? true : undefined
}
