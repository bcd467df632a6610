import type { Kysely } from 'kysely'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import type { KnownCluster } from '../../shared/revision/clusters.ts'
import { readTarget } from '../../shared/revision/read-target.ts'
import { newestRevision } from '../store/revisions.ts'
import type { Database } from '../store/tables.ts'
import { targetsOfRevision } from '../store/targets.ts'

/** What the newest revision wants of the fleet, indexed for look-ups that do not grow with it. Immutable. */
export interface FleetTargets {
  /** 0: nothing was published yet. */
  readonly revision: number
  readonly manifestDigest: string
  readonly hosts: ReadonlyMap<string, Target>
  readonly groups: ReadonlyMap<string, Target>
  /** By name, with the hosts of the fleet file as members; what a group admits is known by its target alone. */
  readonly clusters: ReadonlyMap<string, KnownCluster>
  /** Each from what a machine is or has to the host whose target names it. */
  readonly byMachine: ReadonlyMap<string, string>
  readonly bySerial: ReadonlyMap<string, string>
  readonly byUuid: ReadonlyMap<string, string>
  readonly byMac: ReadonlyMap<string, string>
  readonly byDisk: ReadonlyMap<string, string>
  /** Values that two hosts claim, for people. They lead to neither host: a guess would install the wrong one. */
  readonly ambiguous: readonly string[]
}

export const NO_TARGETS: FleetTargets = indexTargets(0, '', [])

/** One snapshot behind one reference: a reader never sees a new fleet with an old digest. */
export interface FleetTargetsCache {
  current(): FleetTargets
  /** Reads the newest revision from the store. Of several at once none brings back an older one. */
  reload(db: Kysely<Database>): Promise<void>
}

export function fleetTargetsCache(): FleetTargetsCache {
  let current = NO_TARGETS
  return {
    current: () => current,
    async reload(db) {
      const loaded = await loadFleetTargets(db)
      if (loaded.revision >= current.revision) current = loaded
    },
  }
}

export async function loadFleetTargets(db: Kysely<Database>): Promise<FleetTargets> {
  const newest = await newestRevision(db)
  if (!newest) return NO_TARGETS
  const rows = await targetsOfRevision(db, newest.manifest.number)
  const { hosts, groups } = newest.manifest
  if (rows.length !== hosts.size + groups.size) {
    throw new Error(
      `revision ${newest.manifest.number} names ${hosts.size + groups.size} targets, the store has ${rows.length}: restore a backup`,
    )
  }
  const targets = rows.map(row => {
    const read = readTarget(row.target)
    if (read.kind === 'refused') {
      throw new Error(`revision ${newest.manifest.number} in the store: ${read.reason}: restore a backup`)
    }
    return read.target
  })
  return indexTargets(newest.manifest.number, newest.manifest.digest, targets, newest.manifest.clusters)
}

export function indexTargets(
  revision: number,
  manifestDigest: string,
  targets: readonly Target[],
  clusters: ReadonlyMap<string, KnownCluster> = new Map(),
): FleetTargets {
  const hosts = new Map<string, Target>()
  const groups = new Map<string, Target>()
  const ambiguous: string[] = []
  const index = (name: string, partOf: (target: Target) => string | undefined) => {
    const found = new Map<string, string>()
    const twice = new Map<string, string[]>()
    for (const target of targets) {
      const value = target.group === '' ? partOf(target) : undefined
      if (!value) continue
      const other = found.get(value)
      if (other === undefined) found.set(value, target.host)
      else twice.set(value, [...(twice.get(value) ?? [other]), target.host])
    }
    for (const [value, claimants] of twice) {
      found.delete(value)
      ambiguous.push(`${name} ${value} is claimed by ${claimants.join(', ')}`)
    }
    return found
  }
  for (const target of targets) {
    if (target.group === '') hosts.set(target.host, target)
    else groups.set(target.group, target)
  }
  return Object.freeze({
    revision,
    manifestDigest,
    hosts,
    groups,
    clusters,
    byMachine: index('machine', target => target.binding?.machine),
    bySerial: index('serial', target => target.binding?.serial),
    byUuid: index('UUID', target => target.binding?.uuid.toLowerCase()),
    byMac: index('MAC', target => target.binding?.mac.toLowerCase()),
    byDisk: index('disk', target => target.binding?.diskSerial),
    ambiguous,
  })
}
