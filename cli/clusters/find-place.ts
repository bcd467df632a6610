import {
  type ClusterHost,
  ClusterService,
  type ClusterSummary,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'

/** A host, and the cluster that it belongs to by the newest revision. */
export interface Place {
  readonly summary: ClusterSummary
  readonly host: ClusterHost
}

/** A cluster as the coordinator sees it. */
export interface ClusterView {
  readonly summary: ClusterSummary
  readonly hosts: readonly ClusterHost[]
}

/** Machines are named by at least so much of their id. */
const LEAST_ID_CHARS = 4

export async function fetchCluster(connection: Connection, name: string): Promise<ClusterView> {
  const answer = await connection.service(ClusterService).getCluster({ name }, connection.call)
  if (!answer.summary) throw new CliError('error', `the coordinator told nothing of cluster ${name}`)
  return { summary: answer.summary, hosts: answer.hosts }
}

/** Where a host belongs; undefined: in no cluster. `ref` is a host's name or the start of its machine's id. */
export async function findPlace(connection: Connection, ref: string): Promise<Place | undefined> {
  const { clusters } = await connection.service(ClusterService).listClusters({}, connection.call)
  let byMachine: Place | undefined
  for (const { name } of clusters) {
    const { summary, hosts } = await fetchCluster(connection, name)
    for (const host of hosts) {
      if (host.host === ref) return { summary, host }
      if (ref.length < LEAST_ID_CHARS || !host.machine.startsWith(ref)) continue
      if (byMachine && byMachine.host.machine !== host.machine) {
        throw new CliError('usage', `${ref}: several machines begin so; name the host`)
      }
      byMachine = { summary, host }
    }
  }
  return byMachine
}

export async function requirePlace(connection: Connection, ref: string): Promise<Place> {
  const place = await findPlace(connection, ref)
  if (place) return place
  throw new CliError(
    'notFound',
    `${ref}: belongs to no cluster by the newest revision; \`muster clusters\` and \`muster cluster show NAME\` list hosts`,
  )
}
