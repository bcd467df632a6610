import type { HostRecord } from './rollout-record.ts'

type Member = Pick<HostRecord, 'host' | 'cluster' | 'server' | 'after'>

/**
 * Who must be done before whom, by edges between hosts, servers before workers, and clusters that follow others. The server that leads
 * goes after the other servers of its cluster.
 */
export class Predecessors {
  readonly #hosts = new Map<string, Member>()
  readonly #clusters = new Map<string, Member[]>()
  readonly #follows: ReadonlyMap<string, readonly string[]>
  readonly #leaders: ReadonlyMap<string, string>
  /** Of hosts without edges of their own all with the same place have the same predecessors. */
  readonly #known = new Map<string, ReadonlySet<string>>()

  constructor(
    hosts: readonly Member[],
    follows: ReadonlyMap<string, readonly string[]>,
    leaders: ReadonlyMap<string, string> = new Map(),
  ) {
    this.#follows = follows
    this.#leaders = leaders
    for (const host of hosts) {
      this.#hosts.set(host.host, host)
      if (host.cluster === undefined) continue
      const members = this.#clusters.get(host.cluster)
      if (members) members.push(host)
      else this.#clusters.set(host.cluster, [host])
    }
  }

  /** All that must be done before a host, near and far. Only a host in a circle is among them itself. */
  of(name: string): ReadonlySet<string> {
    const host = this.#hosts.get(name)
    if (!host) return new Set()
    const place = host.after.length > 0 || this.#leads(host) ? `host ${name}` : placeOf(host)
    const known = this.#known.get(place)
    if (known) return known
    const found = new Set<string>()
    const places = new Set<string>()
    const queue = [host]
    for (let next = queue.pop(); next; next = queue.pop()) {
      for (const before of this.#before(next, places)) {
        if (found.has(before.host)) continue
        found.add(before.host)
        queue.push(before)
      }
    }
    this.#known.set(place, found)
    return found
  }

  *#before(host: Member, places: Set<string>): Iterable<Member> {
    for (const name of host.after) {
      const other = this.#hosts.get(name)
      if (other && name !== host.host) yield other
    }
    const { cluster } = host
    if (cluster === undefined) return
    const leads = this.#leads(host)
    const place = leads ? `leader ${cluster}` : placeOf(host)
    if (places.has(place)) return
    places.add(place)
    if (!host.server || leads) {
      for (const other of this.#clusters.get(cluster) ?? []) if (other.server && other !== host) yield other
    }
    for (const before of this.#follows.get(cluster) ?? []) {
      if (before !== cluster) yield* this.#clusters.get(before) ?? []
    }
  }

  #leads({ host, cluster, server }: Member): boolean {
    return server && cluster !== undefined && this.#leaders.get(cluster) === host
  }
}

function placeOf({ cluster, server }: Member): string {
  return cluster === undefined ? 'alone' : `${server ? 'servers' : 'workers'} of ${cluster}`
}

/**
 * Hosts that each must be done before the next, and the last before the first: such a rollout would never end, and is refused. Undefined:
 * there are none.
 */
export function findOrderCircle(
  hosts: readonly Member[],
  follows: ReadonlyMap<string, readonly string[]>,
): string | undefined {
  const predecessors = new Predecessors(hosts, follows)
  return hosts.find(({ host }) => predecessors.of(host).has(host))?.host
}
