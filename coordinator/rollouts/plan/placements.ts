import type { Placement, Wait } from './decision.ts'
import { isMove, newestGrants } from './host-steps.ts'
import type { HostRecord, RolloutRecord } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'

/**
 * Hosts that were outside of their clusters when their rollouts began, for they ran nothing of these yet. One that has joined since counts to
 * its cluster from then on, with every step and gate of it, unless the action itself was begun before.
 * A rollout comes by a cluster so only when no other has it that is not over: of two there is never more than one that moves its hosts.
 */
export class Placements {
  readonly made: Placement[] = []
  readonly #snapshot: RolloutSnapshot
  readonly #rollouts: ReadonlyMap<string, RolloutRecord>
  /** Cluster to the rollouts that have it. */
  readonly #having = new Map<string, Set<string>>()

  constructor(snapshot: RolloutSnapshot) {
    this.#snapshot = snapshot
    this.#rollouts = new Map(snapshot.rollouts.map(rollout => [rollout.id, rollout]))
    for (const { id, hosts } of snapshot.rollouts)
      for (const { cluster } of hosts) if (cluster !== undefined) this.#has(id, cluster)
  }

  /** The rollout with each of its hosts where it belongs. */
  place(rollout: RolloutRecord): RolloutRecord {
    let changed = false
    const hosts = rollout.hosts.map(host => {
      const cluster = this.#clusterSince(rollout, host)
      if (cluster === undefined || this.whyNot(rollout, host)) return host
      changed = true
      this.#has(rollout.id, cluster)
      const server = this.#snapshot.hosts.get(host.host)?.server ?? false
      this.made.push({ rollout: rollout.id, host: host.host, cluster })
      return { ...host, cluster, server }
    })
    return changed ? { ...rollout, hosts } : rollout
  }

  /** Why a host that may belong to a cluster by now is not touched as one that belongs to none; undefined: nothing is in the way. */
  whyNot(rollout: RolloutRecord, host: HostRecord): Wait | undefined {
    const cluster = this.#clusterSince(rollout, host)
    if (cluster === undefined) return undefined
    if (this.#snapshot.clusters.get(cluster)?.members.get(host.host)?.joined !== true) {
      const reason = `nobody can say whether it runs as a node of ${cluster} by now`
      return { gate: 'unknown', reason, opens: 'its agent says what is on its disk' }
    }
    for (const other of this.#having.get(cluster) ?? []) {
      if (other === rollout.id || this.#waitsFor(other, rollout.id)) continue
      const reason = `it has joined ${cluster}, and rollout ${other} has that cluster`
      return { gate: 'busy', reason, opens: 'that is over' }
    }
    return undefined
  }

  /** The cluster that it is not certainly outside of any more, though its rollout has it so. */
  #clusterSince({ action }: RolloutRecord, host: HostRecord): string | undefined {
    if (host.cluster !== undefined || !isMove(action)) return undefined
    const act = newestGrants(host).get('act')
    if (act && act.end?.outcome !== 'again') return undefined
    return this.#snapshot.hosts.get(host.host)?.cluster
  }

  #has(rollout: string, cluster: string): void {
    const known = this.#having.get(cluster)
    if (known) known.add(rollout)
    else this.#having.set(cluster, new Set([rollout]))
  }

  /** Whether a rollout begins only once the other is over, near or far: were that waited for, nobody would ever go on. */
  #waitsFor(id: string, other: string, seen = new Set<string>()): boolean {
    const rollout = this.#rollouts.get(id)
    if (!rollout || seen.has(id)) return false
    seen.add(id)
    const { after, reverts } = rollout
    return [...after, ...(reverts === undefined ? [] : [reverts])].some(
      before => before === other || this.#waitsFor(before, other, seen),
    )
  }
}
