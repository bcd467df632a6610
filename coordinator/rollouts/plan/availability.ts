import { countOf } from '../../../shared/rollout/amount.ts'
import type { Wait } from './decision.ts'
import { isDisruptive } from './host-steps.ts'
import type { HostRecord, RolloutRecord } from './rollout-record.ts'
import type { HostView, RolloutSnapshot } from './rollout-snapshot.ts'
import type { Standing } from './standing.ts'

interface Pool {
  size: number
  readonly away: string[]
}

/**
 * Who is away, or may be, over all rollouts. One count for everybody: a host that is off by itself uses the budget as one that is
 * being changed does.
 */
export class Availability {
  /** Host to why it is not available. */
  readonly #away = new Map<string, string>()
  readonly #pools = new Map<string, Pool>()
  readonly #snapshot: RolloutSnapshot
  /** Label and value to the hosts that are away, for the labels that any rollout spreads over. */
  readonly #byLabel = new Map<string, Set<string>>()
  readonly #labels: ReadonlySet<string>
  /** Host to the rollout that does something to it. */
  readonly #movedBy = new Map<string, string>()
  /** Hosts that a rollout takes away, or has left cordoned. */
  readonly #taken = new Set<string>()
  /** Rollout to the hosts that failed in it. */
  readonly #failed = new Map<string, Set<string>>()
  /** Cluster to its servers that are being moved. */
  readonly #servers = new Map<string, Set<string>>()

  constructor(snapshot: RolloutSnapshot, standings: readonly Standing[]) {
    this.#snapshot = snapshot
    this.#labels = new Set(standings.flatMap(({ rollout }) => rollout.settings.spread ?? []))
    for (const view of snapshot.hosts.values()) {
      const why = whyUnavailable(snapshot, view)
      // What no machine is, and never was, is no part of what could be away.
      if (view.machine === undefined && why === undefined) continue
      const pool = this.#pool(view)
      pool.size += 1
      if (why !== undefined) this.#take(view, why)
      // Its own cluster waits until somebody has looked at it; others with the same label must not take it for being there.
      else if (view.cluster !== undefined && !snapshot.clusters.has(view.cluster)) this.#mark(view)
    }
    for (const standing of standings) {
      const failed = new Set<string>()
      this.#failed.set(standing.rollout.id, failed)
      for (const name of standing.names()) {
        const progress = standing.progress(name)
        const host = standing.host(name)
        if (!progress || !host) continue
        const open = progress.kind === 'waiting' || progress.kind === 'moving' ? progress.open : undefined
        if (progress.kind === 'moving' || (open && isDisruptive(open.step))) this.move(standing.rollout, host)
        else if (open) this.#movedBy.set(name, standing.rollout.id)
        if (progress.kind === 'failed') failed.add(name)
        if (progress.kind === 'failed' && progress.cordoned) {
          this.#taken.add(name)
          this.#takeName(name, 'it failed and is cordoned')
        }
      }
    }
  }

  /** Takes down that a rollout moves a host from now on. */
  move({ id }: RolloutRecord, { host, cluster, server }: HostRecord): void {
    this.#movedBy.set(host, id)
    this.#taken.add(host)
    this.#takeName(host, `rollout ${id} moves it`)
    if (cluster === undefined || !server) return
    const servers = this.#servers.get(cluster)
    if (servers) servers.add(host)
    else this.#servers.set(cluster, new Set([host]))
  }

  /** Another rollout that does something to the host; undefined: none. */
  movedByOther({ id }: RolloutRecord, { host }: HostRecord): string | undefined {
    const other = this.#movedBy.get(host)
    return other === id ? undefined : other
  }

  /** Another server of the cluster that is being moved; undefined: none. */
  otherServer({ host, cluster }: HostRecord): string | undefined {
    for (const server of this.#servers.get(cluster ?? '') ?? []) if (server !== host) return server
    return undefined
  }

  /** Why one host more may not be away; undefined: it may. */
  overBudget({ id, settings }: RolloutRecord, host: HostRecord): Wait | undefined {
    const view = this.#snapshot.hosts.get(host.host)
    if (!view) return undefined
    const { size, away } = this.#pool(view)
    const most = this.#mostAway(settings, host, view)
    const used = away.length - (this.#away.has(host.host) ? 1 : 0)
    if (used < most) return undefined
    const named: string[] = []
    for (const name of away) {
      if (named.length === 3) break
      if (name !== host.host) named.push(`${name} (${this.#away.get(name)})`)
    }
    const more = used > named.length ? ` and ${used - named.length} more` : ''
    const failed = away.filter(name => name !== host.host && this.#failed.get(id)?.has(name))
    return {
      gate: 'budget',
      byFailed: failed.length >= most,
      reason: `${used} of ${size} are away, ${most} may be: ${named.join(', ')}${more}`,
      opens: 'one of them is back and has stayed well',
    }
  }

  /**
   * Why a host outside of clusters that somebody named goes all the same though the budget is used up: only machines are in the way that are
   * off by themselves and that nobody named, and of the others there are fewer than may be away. Undefined: it waits, or has nothing to
   * wait for.
   */
  pastWhoIsOff(rollout: RolloutRecord, host: HostRecord): string | undefined {
    const { settings, hosts } = rollout
    const view = this.#snapshot.hosts.get(host.host)
    if (!settings.direct || host.cluster !== undefined || view?.cluster !== undefined || !view)
      return undefined
    const { away } = this.#pool(view)
    const others = away.filter(name => name !== host.host)
    const most = this.#mostAway(settings, host, view)
    if (others.length < most) return undefined
    const named = new Set(hosts.map(({ host: name }) => name))
    const off = others.filter(name => !named.has(name) && this.#isOff(name))
    if (others.length - off.length >= most) return undefined
    const more = off.length > 3 ? ` and ${off.length - 3} more` : ''
    return `named by hand, and does not wait for who is off by itself: ${off.slice(0, 3).join(', ')}${more}`
  }

  /** Why it may not be away beside another with the same value of the label; undefined: it may. */
  notSpread({ id, settings }: RolloutRecord, host: HostRecord): Wait | undefined {
    const label = settings.spread
    const value = label === undefined ? undefined : this.#snapshot.hosts.get(host.host)?.labels[label]
    if (label === undefined || value === undefined) return undefined
    const others = this.#byLabel.get(`${label}\0${value}`) ?? new Set()
    for (const other of others) {
      if (other === host.host) continue
      return {
        gate: 'spread',
        byFailed: this.#someFailed(id, others, host),
        reason: `${other} has ${label} ${value} too and is away: ${this.#away.get(other) ?? 'nobody can say how its cluster stands'}`,
        opens: `${other} is back and has stayed well`,
      }
    }
    return undefined
  }

  /** Whether a server of its cluster failed in the rollout and is not well: the datastore spares no other one then. */
  failedServer({ id }: RolloutRecord, { host, cluster }: HostRecord): boolean {
    const members = this.#snapshot.clusters.get(cluster ?? '')?.members
    for (const name of this.#failed.get(id) ?? []) {
      const member = members?.get(name)
      if (name === host || !member?.server) continue
      if (member.ready !== true || this.#snapshot.hosts.get(name)?.connected !== true) return true
    }
    return false
  }

  #someFailed(id: string, names: Iterable<string>, { host }: HostRecord): boolean {
    for (const name of names) if (name !== host && this.#failed.get(id)?.has(name)) return true
    return false
  }

  #mostAway(
    { maxUnavailable, maxUnavailableAlone }: RolloutRecord['settings'],
    host: HostRecord,
    view: HostView,
  ): number {
    const amount = view.cluster === undefined ? maxUnavailableAlone : maxUnavailable
    return host.server || view.server ? 1 : countOf(amount, this.#pool(view).size)
  }

  /** Nothing that anybody does keeps it away. */
  #isOff(name: string): boolean {
    const view = this.#snapshot.hosts.get(name)
    return view !== undefined && !view.connected && view.busyWith === undefined && !this.#taken.has(name)
  }

  #pool(view: HostView): Pool {
    const name = poolOf(view)
    const known = this.#pools.get(name)
    if (known) return known
    const pool = { size: 0, away: [] }
    this.#pools.set(name, pool)
    return pool
  }

  #takeName(host: string, why: string): void {
    const view = this.#snapshot.hosts.get(host)
    if (view) this.#take(view, why)
  }

  #take(view: HostView, why: string): void {
    if (this.#away.has(view.host)) return
    this.#away.set(view.host, why)
    this.#pool(view).away.push(view.host)
    this.#mark(view)
  }

  #mark(view: HostView): void {
    for (const label of this.#labels) {
      const value = view.labels[label]
      if (value === undefined) continue
      const key = `${label}\0${value}`
      const others = this.#byLabel.get(key)
      if (others) others.add(view.host)
      else this.#byLabel.set(key, new Set([view.host]))
    }
  }
}

/** Servers of a cluster, its workers, and everything outside of clusters are counted each for themselves. */
function poolOf({ cluster, server }: Pick<HostView, 'cluster' | 'server'>): string {
  return cluster === undefined ? '' : `${cluster} ${server ? 'servers' : 'workers'}`
}

function whyUnavailable({ clusters }: RolloutSnapshot, view: HostView): string | undefined {
  const member = view.cluster === undefined ? undefined : clusters.get(view.cluster)?.members.get(view.host)
  if (view.machine === undefined) return member?.joined ? 'no machine is this host any more' : undefined
  if (!view.connected) return 'it is not connected'
  if (view.busyWith !== undefined) return `operation ${view.busyWith} is under way`
  if (!member?.joined) return undefined
  if (member.cordonedBy !== undefined) return 'it is cordoned by us'
  return member.ready === true ? undefined : 'its node is not Ready'
}
