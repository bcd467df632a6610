import type { MachineDirectory } from '../machines/directory.ts'
import type { FleetTargets } from '../revisions/fleet-targets.ts'
import type { Distribution, MemberRole } from './cluster-record.ts'
import { isServer } from './cluster-record.ts'
import type { WantedHost } from './cluster-snapshot.ts'

/** What the newest revision wants of a cluster. */
export interface WantedCluster {
  readonly distribution: Distribution
  /** host or host:port at which its API answers; undefined: that of a server. */
  readonly endpoint: string | undefined
  /** In order of their names. */
  readonly hosts: readonly WantedHost[]
}

type Directory = Pick<MachineDirectory, 'machineOf' | 'entries' | 'assignment'>

/** The hosts of a cluster with the machines they are bound to now; undefined: the revision has no such cluster. */
export function wantedCluster(
  targets: FleetTargets,
  directory: Directory,
  name: string,
): WantedCluster | undefined {
  const cluster = targets.clusters.get(name)
  if (!cluster) return undefined
  const hosts: WantedHost[] = cluster.members.map(({ host, role, machine: keyed }) => {
    const machine = directory.machineOf(host)
    // Nodes believe only servers whose keys stand in the signed manifest.
    const barred = isServer(role) && keyed === undefined ? ({ gate: 'unkeyed', host } as const) : undefined
    return { host, role, machine, barred }
  })
  if (admitsWorkers(targets, name)) hosts.push(...workersOfGroups(targets, directory, name))
  return {
    distribution: cluster.distribution,
    endpoint: cluster.endpoint,
    hosts: hosts.sort((a, b) => (a.host < b.host ? -1 : 1)),
  }
}

/** The cluster that a machine's host belongs to by the newest revision; undefined: none. */
export function clusterOfMachine(
  targets: FleetTargets,
  directory: Pick<MachineDirectory, 'assignment'>,
  machine: string,
): string | undefined {
  if (targets.clusters.size === 0) return undefined
  const assignment = directory.assignment(machine)
  if (assignment.kind !== 'host') return undefined
  const { host, group } = assignment
  const target = group === '' ? targets.hosts.get(host) : targets.groups.get(group)
  return target && target.role !== 'none' && targets.clusters.has(target.cluster) ? target.cluster : undefined
}

function admitsWorkers({ groups }: FleetTargets, name: string): boolean {
  return [...groups.values()].some(({ cluster, role }) => cluster === name && role !== 'none')
}

/** Machines that a group's rule made hosts. They are workers, whatever else a group says. */
function workersOfGroups(targets: FleetTargets, directory: Directory, name: string): readonly WantedHost[] {
  const found: WantedHost[] = []
  const role: MemberRole = 'worker'
  for (const { id } of directory.entries()) {
    const assignment = directory.assignment(id)
    if (assignment.kind !== 'host' || assignment.group === '') continue
    const target = targets.groups.get(assignment.group)
    if (target?.cluster !== name || target.role === 'none') continue
    if (directory.machineOf(assignment.host) === id) found.push({ host: assignment.host, role, machine: id })
  }
  return found
}
