import { create } from '@bufbuild/protobuf'
import { escapeText } from '../../shared/escape.ts'
import {
  type ClusterHost,
  ClusterHostSchema,
  ClusterService,
  type ClusterSummary,
  type ManifestsStanding,
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
  /** What the cluster as a whole waits for. */
  readonly waitsFor: readonly string[]
  /** Undefined: none were ever applied, and there are none. */
  readonly manifests: ManifestsStanding | undefined
}

/** Machines are named by at least so much of their id. */
const LEAST_ID_CHARS = 4

export async function fetchCluster(connection: Connection, name: string): Promise<ClusterView> {
  const answer = await connection.service(ClusterService).getCluster({ name }, connection.call)
  if (!answer.summary) throw new CliError('error', `the coordinator told nothing of cluster ${name}`)
  const { hosts, waitsFor, manifests } = answer
  return { summary: answer.summary, hosts, waitsFor, manifests }
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

/**
 * The same; fails where there is none. A host that the newest revision does not name any more, and whose node is still in the cluster,
 * is found by the cluster's name.
 */
export async function requirePlace(
  connection: Connection,
  ref: string,
  cluster: string | undefined,
): Promise<Place> {
  const place = await placeIn(connection, ref, cluster)
  if (place) return place
  throw new CliError(
    'notFound',
    `${escapeText(ref)}: belongs to no cluster by the newest revision; \`muster clusters\` and \`muster cluster show NAME\` list hosts. ` +
      'If it was taken out of fleet.toml, say --cluster NAME',
  )
}

/** Where a host belongs, or, where a cluster is named, a host of that name there, whether the revision knows it or not. */
export async function placeIn(
  connection: Connection,
  ref: string,
  cluster: string | undefined,
): Promise<Place | undefined> {
  if (cluster === undefined) return findPlace(connection, ref)
  const { summary, hosts } = await fetchCluster(connection, cluster)
  const host = hosts.find(each => each.host === ref)
  return { summary, host: host ?? create(ClusterHostSchema, { host: ref }) }
}
