import { type Progress, progressOf } from './host-steps.ts'
import type { Grant, HostRecord, RolloutRecord } from './rollout-record.ts'

/**
 * A rollout while it is planned: where each host stands, what was decided just now included. Everything is counted as it changes,
 * since every host of a fleet asks.
 */
export class Standing {
  readonly rollout: RolloutRecord
  readonly #hosts = new Map<string, HostRecord>()
  readonly #progress = new Map<string, Progress>()
  readonly #failed = new Set<string>()
  readonly #undoneCanaries = new Map<string, HostRecord>()
  readonly #undoneServers = new Map<string, Map<string, HostRecord>>()
  readonly #undone = new Map<string, Map<string, HostRecord>>()

  constructor(rollout: RolloutRecord) {
    this.rollout = rollout
    for (const host of rollout.hosts) {
      if (host.canary) this.#undoneCanaries.set(host.host, host)
      if (host.cluster !== undefined) {
        insert(this.#undone, host.cluster, host)
        if (host.server) insert(this.#undoneServers, host.cluster, host)
      }
      this.#place(host)
    }
  }

  names(): readonly string[] {
    return this.rollout.hosts.map(({ host }) => host)
  }

  host(name: string): HostRecord | undefined {
    return this.#hosts.get(name)
  }

  progress(name: string): Progress | undefined {
    return this.#progress.get(name)
  }

  isDone(name: string): boolean {
    return this.#progress.get(name)?.kind === 'done'
  }

  failed(): readonly string[] {
    return [...this.#failed]
  }

  /** Canaries that are not done, in their order. */
  undoneCanaries(): Iterable<HostRecord> {
    return this.#undoneCanaries.values()
  }

  undoneServers(cluster: string): Iterable<HostRecord> {
    return this.#undoneServers.get(cluster)?.values() ?? []
  }

  /** Some host of the cluster that is not done; undefined: all are, or it has none. */
  firstUndone(cluster: string): HostRecord | undefined {
    for (const host of this.#undone.get(cluster)?.values() ?? []) return host
    return undefined
  }

  /** Takes down what was granted or closed. */
  change(host: HostRecord): void {
    this.#place(host)
  }

  grant(name: string, grant: Grant): void {
    const host = this.#hosts.get(name)
    if (host) this.#place({ ...host, grants: [...host.grants, grant] })
  }

  /** The rollout with everything that was decided just now. */
  record(): RolloutRecord {
    return { ...this.rollout, hosts: this.rollout.hosts.map(host => this.#hosts.get(host.host) ?? host) }
  }

  #place(host: HostRecord): void {
    const progress = progressOf(this.rollout, host)
    this.#hosts.set(host.host, host)
    this.#progress.set(host.host, progress)
    if (progress.kind === 'failed' || (progress.kind === 'moving' && progress.failed))
      this.#failed.add(host.host)
    if (progress.kind !== 'done') return
    this.#undoneCanaries.delete(host.host)
    if (host.cluster === undefined) return
    this.#undone.get(host.cluster)?.delete(host.host)
    this.#undoneServers.get(host.cluster)?.delete(host.host)
  }
}

function insert(map: Map<string, Map<string, HostRecord>>, key: string, host: HostRecord): void {
  const known = map.get(key)
  if (known) known.set(host.host, host)
  else map.set(key, new Map([[host.host, host]]))
}
