import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  type ClusterEntry,
  ClusterEntrySchema,
  type Manifest,
  type Target,
} from '../gen/muster/v1/manifest_pb.ts'
import { isDigest } from '../ids.ts'
import { type Distribution, distributions } from '../kubernetes/distributions.ts'
import { parseVersion } from '../kubernetes/version.ts'
import type { NamedCluster, NamedMember } from '../sealing/judge-mint.ts'
import { isHostName } from './host-name.ts'

const MAX_CLUSTERS = 100
const MAX_MEMBERS = 5000
const MAX_ENDPOINT_CHARS = 260

/** A cluster as the manifest names it: checked, in plain types. */
export interface KnownCluster extends NamedCluster {
  readonly distribution: Distribution
  /** What all members shall run; undefined: what each closure brings. */
  readonly version: string | undefined
  /** host or host:port; undefined: that of a live server. */
  readonly endpoint: string | undefined
}

/** Clusters by name, or what is wrong with them. A manifest from before there were any names none. */
export function readClusters(
  { clusters }: Pick<Manifest, 'clusters'>,
  hosts: ReadonlyMap<string, string>,
): ReadonlyMap<string, KnownCluster> | string {
  if (clusters.length > MAX_CLUSTERS) {
    return `manifest clusters: ${clusters.length}, at most ${MAX_CLUSTERS} are allowed`
  }
  const byName = new Map<string, KnownCluster>()
  const seen: Seen = { hosts: new Set(), machines: new Set() }
  for (const entry of clusters) {
    if (!isHostName(entry.name))
      return 'manifest clusters: a name must be a-z, 0-9 and -, at most 63 characters'
    if (byName.has(entry.name)) return `manifest clusters ${entry.name}: stands there twice`
    const read = readCluster(entry, hosts, seen)
    if (typeof read === 'string') return `manifest clusters ${entry.name}: ${read}`
    byName.set(entry.name, read)
  }
  return byName
}

interface Seen {
  readonly hosts: Set<string>
  readonly machines: Set<string>
}

function readCluster(
  entry: ClusterEntry,
  hosts: ReadonlyMap<string, string>,
  seen: Seen,
): KnownCluster | string {
  const distribution = distributions.find(name => name === entry.distribution)
  if (distribution === undefined) return `distribution: must be ${distributions.join(', ')}`
  if (entry.version !== '' && !parseVersion(entry.version)) return 'version: must be such as 1.34.3'
  if (entry.endpoint.length > MAX_ENDPOINT_CHARS || !/^[A-Za-z0-9.:[\]-]*$/.test(entry.endpoint)) {
    return 'endpoint: must be a name or an address, with or without a port'
  }
  if (entry.members.length > MAX_MEMBERS) return `more than ${MAX_MEMBERS} members`
  const members: NamedMember[] = []
  for (const { host, role, machine } of entry.members) {
    if (!hosts.has(host)) return `member ${JSON.stringify(host.slice(0, 64))}: is no host of the revision`
    if (seen.hosts.has(host)) return `member ${host}: is named twice, and a host is in one cluster at most`
    if (role !== 'server' && role !== 'worker' && role !== 'server+worker') {
      return `member ${host}: role must be server, worker or server+worker`
    }
    if (machine !== '' && !isDigest(machine)) {
      return `member ${host}: machine must be 64 lower-case hex characters`
    }
    // Two members with one key would make one machine two minters.
    if (machine !== '' && seen.machines.has(machine))
      return `member ${host}: its machine is another member too`
    seen.hosts.add(host)
    if (machine !== '') seen.machines.add(machine)
    members.push({ host, role, machine: machine || undefined })
  }
  return {
    cluster: entry.name,
    members,
    admitsWorkers: entry.admitsWorkers,
    distribution,
    version: entry.version || undefined,
    endpoint: entry.endpoint || undefined,
  }
}

/** Whether the manifest says the same of a host's cluster as its target does; undefined: it does. */
export function contradiction(
  clusters: ReadonlyMap<string, KnownCluster>,
  { host, group, cluster: name, role, binding }: Target,
): string | undefined {
  if (clusters.size === 0) return undefined
  const place = host === '' ? `group ${group}` : `host ${host}`
  const cluster = clusters.get(name)
  if (name !== '' && !cluster) return `${place}: the manifest knows no cluster ${name}`
  if (host === '') {
    return cluster && !cluster.admitsWorkers
      ? `${place}: the manifest says that cluster ${name} admits no workers`
      : undefined
  }
  const elsewhere = [...clusters.values()].find(
    ({ cluster: other, members }) => other !== name && members.some(member => member.host === host),
  )
  if (elsewhere) return `${place}: the manifest has it in cluster ${elsewhere.cluster}`
  if (!cluster) return undefined
  const member = cluster.members.find(each => each.host === host)
  if (!member) return `${place}: the manifest does not have it in cluster ${name}`
  return member.role === role && (member.machine ?? '') === (binding?.machine ?? '')
    ? undefined
    : `${place}: the manifest has it with another role or machine in cluster ${name}`
}

/** Whether two lists of clusters say the same, byte by byte. */
export function sameClusters(a: readonly ClusterEntry[], b: readonly ClusterEntry[]): boolean {
  return (
    a.length === b.length &&
    a.every((entry, index) => {
      const other = b[index]
      return (
        other !== undefined &&
        Buffer.compare(toBinary(ClusterEntrySchema, entry), toBinary(ClusterEntrySchema, other)) === 0
      )
    })
  )
}

/** In an order that does not depend on who made the list, so that equal fleets give equal bytes. */
export function sortedClusters(
  clusters: readonly MessageInitShape<typeof ClusterEntrySchema>[],
): ClusterEntry[] {
  return clusters
    .map(entry => create(ClusterEntrySchema, entry))
    .map(entry => ({ ...entry, members: entry.members.toSorted((a, b) => (a.host < b.host ? -1 : 1)) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
