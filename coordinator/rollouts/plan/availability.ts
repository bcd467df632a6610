import { countOf } from '../../../shared/rollout/amount.ts'
import type { Wait } from './decision.ts'
import { progressOf } from './host-steps.ts'
import type { HostRecord, RolloutRecord } from './rollout-record.ts'
import type { HostView, RolloutSnapshot } from './rollout-snapshot.ts'

/**
 * Who is away, or may be, over all rollouts. One count for everybody: a host that is off by itself uses the budget as one that is
 * being changed does.
 */
export class Availability {
  /** Host to why it is not available. */
  readonly #away = new Map<string, string>()
  readonly #pools = new Map<string, HostView[]>()
  readonly #snapshot: RolloutSnapshot
  /** Pool to how many of it are away: counted once, since every host of a pool asks. */
  readonly #counts = new Map<string, number>()
  /** Label and value to the hosts that are away. */
  readonly #byLabel = new Map<string, Set<string>>()

  constructor(snapshot: RolloutSnapshot) {
    this.#snapshot = snapshot
    for (const view of snapshot.hosts.values()) {
      const pool = poolOf(view)
      const members = this.#pools.get(pool)
      if (members) members.push(view)
      else this.#pools.set(pool, [view])
      const why = whyUnavailable(snapshot, view)
      if (why !== undefined) this.take(view.host, why)
    }
    for (const rollout of snapshot.rollouts) {
      for (const host of rollout.hosts) {
        const progress = progressOf(rollout, host)
        if (progress.kind === 'moving') this.take(host.host, `rollout ${rollout.id} moves it`)
        if (progress.kind === 'failed' && progress.cordoned) this.take(host.host, 'it failed and is cordoned')
      }
    }
  }

  /** Takes down that a host is away from now on. */
  take(host: string, why: string): void {
    if (this.#away.has(host)) return
    this.#away.set(host, why)
    const view = this.#snapshot.hosts.get(host)
    if (!view) return
    const pool = poolOf(view)
    this.#counts.set(pool, (this.#counts.get(pool) ?? 0) + 1)
    for (const [label, value] of Object.entries(view.labels)) {
      const key = `${label}\0${value}`
      const others = this.#byLabel.get(key)
      if (others) others.add(host)
      else this.#byLabel.set(key, new Set([host]))
    }
  }

  isAway(host: string): boolean {
    return this.#away.has(host)
  }

  /** Why one host more may not be away; undefined: it may. */
  overBudget({ settings }: RolloutRecord, host: HostRecord): Wait | undefined {
    const view = this.#snapshot.hosts.get(host.host)
    if (!view) return undefined
    const pool = poolOf(view)
    const total = this.#pools.get(pool)?.length ?? 0
    const amount = host.cluster === undefined ? settings.maxUnavailableAlone : settings.maxUnavailable
    const most = host.server ? 1 : countOf(amount, total)
    const used = (this.#counts.get(pool) ?? 0) - (this.#away.has(host.host) ? 1 : 0)
    if (used < most) return undefined
    const others = [...(this.#pools.get(pool) ?? [])].filter(
      other => other.host !== host.host && this.#away.has(other.host),
    )
    const named = others.slice(0, 3).map(other => `${other.host} (${this.#away.get(other.host)})`)
    const more = others.length > named.length ? ` and ${others.length - named.length} more` : ''
    return {
      gate: 'budget',
      reason: `${used} of ${total} are away, ${most} may be: ${named.join(', ')}${more}`,
      opens: 'one of them is back and has stayed well',
    }
  }

  /** Why it may not be away beside another with the same value of the label; undefined: it may. */
  notSpread({ settings }: RolloutRecord, host: HostRecord): Wait | undefined {
    const label = settings.spread
    const value = label === undefined ? undefined : this.#snapshot.hosts.get(host.host)?.labels[label]
    if (label === undefined || value === undefined) return undefined
    const other = [...(this.#byLabel.get(`${label}\0${value}`) ?? [])].find(name => name !== host.host)
    if (other === undefined) return undefined
    return {
      gate: 'spread',
      reason: `${other} has ${label} ${value} too and is away: ${this.#away.get(other)}`,
      opens: `${other} is back and has stayed well`,
    }
  }
}

/** Servers of a cluster, its workers, and everything outside of clusters are counted each for themselves. */
function poolOf({ cluster, server }: Pick<HostView, 'cluster' | 'server'>): string {
  return cluster === undefined ? '' : `${cluster} ${server ? 'servers' : 'workers'}`
}

function whyUnavailable({ clusters }: RolloutSnapshot, view: HostView): string | undefined {
  if (view.machine === undefined) return undefined
  if (!view.connected) return 'it is not connected'
  if (view.busyWith !== undefined) return `operation ${view.busyWith} is under way`
  const member = view.cluster === undefined ? undefined : clusters.get(view.cluster)?.members.get(view.host)
  if (!member?.joined) return undefined
  if (member.cordonedBy !== undefined) return 'it is cordoned by us'
  return member.ready === true ? undefined : 'its node is not Ready'
}
