import { invalid, notFound } from '../../../shared/rpc/rpc-error.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'

/** The cluster that a host is in: by the newest revision, else by what a cluster's record knows of one that left it. */
export async function findClusterOf({ fleetTargets, clusters, directory }: ClusterServiceDeps, host: string) {
  const targets = fleetTargets.current()
  const wanted = targets.hosts.get(host)
  if (wanted && wanted.cluster !== '') return wanted.cluster
  const machine = directory.machineOf(host)
  const assignment = machine === undefined ? undefined : directory.assignment(machine)
  const group = assignment?.kind === 'host' ? targets.groups.get(assignment.group) : undefined
  if (group && group.cluster !== '') return group.cluster
  const found: string[] = []
  for (const name of targets.clusters.keys()) {
    const snapshot = await clusters.snapshot(name)
    const views = [...(snapshot?.machines.values() ?? [])].map(({ observation }) => observation?.view)
    const isNode = views.some(view => view?.nodes.some(node => node.name === host))
    if (isNode || snapshot?.record.left.has(host)) found.push(name)
  }
  const [only] = found
  if (only === undefined) throw notFound(`host: ${host} is in no cluster`)
  if (found.length > 1)
    throw invalid(`cluster: ${host} is known in ${found.join(', ')}; name the one you mean`)
  return only
}
