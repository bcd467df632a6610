import { escapeText } from '../../shared/escape.ts'
import {
  type ClusterAct,
  ClusterService,
  type ManifestsStanding,
  ManifestsStandingSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Cli } from '../cli.ts'
import { type ClusterView, fetchCluster } from '../clusters/find-place.ts'
import { withCoordinator } from '../connect.ts'
import { actListing, actRecord } from '../output/act-listing.ts'
import {
  clusterHostListing,
  clusterListing,
  standingStyle,
  standingWord,
  votersStyle,
  votersText,
} from '../output/cluster-listing.ts'
import { paint } from '../output/colour.ts'
import type { Format } from '../output/format.ts'
import { plainOf } from '../output/plain.ts'
import { renderList, renderOne } from '../output/show-list.ts'
import { renderFields, renderTable, tableLook } from '../output/table.ts'
import { watch } from '../output/watch.ts'
import { isForPeople } from './list-machines.ts'

/** As many of the newest acts as `cluster show` tells. */
const ACTS_SHOWN = 10

interface ListOptions {
  readonly output?: Format | undefined
  readonly watch?: number | boolean | undefined
}

export async function listClusters(cli: Cli, options: ListOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, async () => {
      const { clusters } = await connection.service(ClusterService).listClusters({}, connection.call)
      const text = await renderList(cli.io, clusters, clusterListing, options.output)
      if (clusters.length > 0 || !isForPeople(options.output)) return text
      if (options.watch) return `${clusterListing.empty}\n`
      cli.io.err(`${clusterListing.empty}\n`)
      return text
    })
  })
}

/** One cluster in full: hosts, what each waits for, what was asked of it. */
export async function showCluster(cli: Cli, name: string, options: ListOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    await watch(cli, options.watch, async () => {
      const view = await fetchCluster(connection, name)
      const { acts } = await connection
        .service(ClusterService)
        .listClusterActs({ cluster: name, limit: ACTS_SHOWN }, connection.call)
      const wide = options.output === 'wide'
      return renderOne(clusterRecord(view, acts), options.output, () => clusterText(cli, view, acts, wide))
    })
  })
}

function clusterRecord({ summary, hosts, waitsFor, manifests }: ClusterView, acts: readonly ClusterAct[]) {
  return {
    ...clusterListing.record(summary),
    waitsFor,
    manifests: manifests ? plainOf(ManifestsStandingSchema, manifests) : null,
    // Their number is the length of this list.
    hosts: hosts.map(clusterHostListing(summary.distribution).record),
    acts: acts.map(actRecord),
  }
}

export function clusterText(
  { io, clock }: Pick<Cli, 'io' | 'clock'>,
  { summary, hosts, waitsFor, manifests }: ClusterView,
  acts: readonly ClusterAct[],
  wide: boolean,
): string {
  const look = tableLook(io, wide)
  const { joined } = summary
  const fields = renderFields(
    [
      ['cluster', summary.name],
      ['distribution', summary.distribution],
      ['standing', standingWord(summary.standing), standingStyle(summary)],
      ['authority', summary.authority],
      ['first server', summary.firstServer],
      ['voters', votersText(summary) || 'not known', votersStyle(summary)],
      ['hosts', `${joined} of ${summary.hosts} joined`],
      ['manifests', manifests && manifestsText(manifests), manifests?.reason === '' ? 'plain' : 'warn'],
    ],
    io.colour,
  )
  const waits = waitsFor.map(text => `${paint(escapeText(text), 'warn', io.colour)}\n`).join('')
  const table =
    hosts.length > 0 ? `\n${renderTable(hosts, clusterHostListing(summary.distribution).columns, look)}` : ''
  const done = acts.length > 0 ? `\n${renderTable(acts, actListing(clock.now()).columns, look)}` : ''
  return `${fields}${waits}${table}${done}`
}

function manifestsText({ revision, appliedRevision, reason }: ManifestsStanding): string {
  const has = appliedRevision === 0n ? 'none were brought yet' : `those of revision ${appliedRevision}`
  const behind = appliedRevision === revision ? '' : `, the newest is ${revision}`
  return `${has}${behind}${reason === '' ? '' : `: ${reason}`}`
}
