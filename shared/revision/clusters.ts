import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  type ClusterEntry,
  ClusterEntrySchema,
  type JobGate as JobGateMessage,
  type Manifest,
  type Target,
} from '../gen/muster/v1/manifest_pb.ts'
import { isDigest } from '../ids.ts'
import { type Distribution, distributions } from '../kubernetes/distributions.ts'
import { parseVersion } from '../kubernetes/version.ts'
import type { NamedCluster, NamedMember } from '../sealing/judge-mint.ts'
import { msFromDuration } from '../time.ts'
import { isHostName } from './host-name.ts'
import { MAX_JOB_GATES, SAFETY_BOUNDS, SAFETY_DEFAULTS } from './safety-bounds.ts'
import { jobPathProblem } from './safety-text.ts'

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
  /** Jobs that must complete before a host of it is disrupted, in order of their names; at most 16. */
  readonly gates: readonly JobGate[]
}

/** A Job of the fleet directory that is asked whether its cluster may be touched. */
export interface JobGate {
  readonly name: string
  /** Until it has completed. */
  readonly deadlineMs: number
  /** Of its file in the tree. */
  readonly path: string
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
  const gates = readJobGates(entry.gates)
  if (typeof gates === 'string') return gates
  return {
    cluster: entry.name,
    members,
    admitsWorkers: entry.admitsWorkers,
    distribution,
    version: entry.version || undefined,
    endpoint: entry.endpoint || undefined,
    gates,
  }
}

function readJobGates(messages: readonly JobGateMessage[]): readonly JobGate[] | string {
  const { least, most } = SAFETY_BOUNDS.jobDeadlineMs
  if (messages.length > MAX_JOB_GATES) return `more than ${MAX_JOB_GATES} gates`
  const gates: JobGate[] = []
  for (const { name, deadline, path } of messages) {
    if (!isHostName(name)) return 'gates: a name must be a-z, 0-9 and -, at most 63 characters'
    if (gates.some(other => other.name === name)) return `gate ${name}: stands there twice`
    const problem = jobPathProblem(path)
    if (problem !== undefined) return `gate ${name} job: ${problem}`
    const deadlineMs = deadline ? msFromDuration(deadline) : SAFETY_DEFAULTS.jobDeadlineMs
    if (deadlineMs < least || deadlineMs > most)
      return `gate ${name} deadline: must be from ${least} to ${most} ms`
    gates.push({ name, deadlineMs, path })
  }
  return gates
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
    .map(entry => ({
      ...entry,
      members: byText(entry.members, ({ host }) => host),
      gates: byText(entry.gates, ({ name }) => name),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

const byText = <T>(list: readonly T[], text: (each: T) => string): T[] =>
  list.toSorted((a, b) => (text(a) < text(b) ? -1 : 1))
