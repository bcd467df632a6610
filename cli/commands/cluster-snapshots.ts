import { escapeText } from '../../shared/escape.ts'
import type { DatastoreSnapshot } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Cli } from '../cli.ts'
import { isDone } from '../clusters/act-state.ts'
import { type ClusterView, fetchCluster } from '../clusters/find-place.ts'
import { gather, hostsToAsk } from '../clusters/gather.ts'
import { reportSilent } from '../clusters/report-silent.ts'
import { runAct } from '../clusters/run-act.ts'
import { type ActOptions, showAct } from '../clusters/show-act.ts'
import { machineOf, openSigner, signAct } from '../clusters/signer.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { type HostSnapshot, isServerRole, snapshotListing } from '../output/cluster-listing.ts'
import { showList } from '../output/show-list.ts'

interface On {
  readonly on?: string | undefined
}
type Options = Omit<ActOptions, 'wait'> & On

/** Copies the datastore into a folder for root alone on a server. */
export async function takeSnapshot(
  cli: Cli,
  cluster: string,
  options: Options & { readonly name?: string | undefined },
): Promise<void> {
  const { on = '', name = '', timeout, output } = options
  if (name !== '' && !isSnapshotName(name)) throw new CliError('usage', SNAPSHOT_NAME)
  await withCoordinator(cli, async connection => {
    const act = await runAct(
      cli,
      connection,
      { act: 'snapshot', cluster, host: on, parameter: name },
      timeout,
    )
    if (!isDone(act)) return showAct(cli, act, output)
    await showList(
      cli.io,
      snapshotsOf(act.executor || act.host, act),
      snapshotListing(cli.clock.now()),
      output,
    )
  })
}

const SNAPSHOT_NAME = 'a snapshot’s name has letters, digits and hyphens, at most 63'

function isSnapshotName(name: string): boolean {
  return /^[A-Za-z0-9-]{1,63}$/.test(name)
}

export async function listSnapshots(cli: Cli, cluster: string, options: Options): Promise<void> {
  await withCoordinator(cli, async connection => {
    const view = await fetchCluster(connection, cluster)
    const { snapshots, finish } = await gatherSnapshots(cli, connection, view, options)
    await showList(cli.io, snapshots, snapshotListing(cli.clock.now()), options.output)
    finish()
  })
}

async function gatherSnapshots(
  cli: Cli,
  connection: Connection,
  view: ClusterView,
  { on, timeout }: Pick<Options, 'on' | 'timeout'>,
): Promise<{ readonly snapshots: HostSnapshot[]; readonly finish: () => void }> {
  const hosts = hostsToAsk(view, on, true)
  const gathered = await gather(cli, connection, view.summary.name, 'snapshots', hosts, timeout)
  const snapshots = gathered.flatMap(each => ('act' in each ? snapshotsOf(each.host, each.act) : []))
  return { snapshots, finish: () => reportSilent(cli, gathered) }
}

function snapshotsOf(
  host: string,
  { result }: { readonly result?: { readonly value: SnapshotValue } | undefined },
): HostSnapshot[] {
  const value = result?.value
  return value?.case === 'snapshots' ? value.value.snapshots.map(snapshot => ({ host, snapshot })) : []
}

type SnapshotValue =
  | { readonly case: 'snapshots'; readonly value: { readonly snapshots: readonly DatastoreSnapshot[] } }
  | { readonly case: 'kubeconfig' | 'certificates' | 'text' | undefined }

export interface RestoreOptions extends Options {
  readonly yes?: boolean | undefined
  readonly key?: string | undefined
}

/** Makes one server the only one, from a copy of the datastore. */
export async function restoreSnapshot(
  cli: Cli,
  cluster: string,
  name: string,
  options: RestoreOptions,
): Promise<void> {
  if (!isSnapshotName(name)) throw new CliError('usage', `${escapeText(name)}: ${SNAPSHOT_NAME}`)
  const { timeout, output, key, yes } = options
  await withCoordinator(cli, async connection => {
    const view = await fetchCluster(connection, cluster)
    const host = await serverWith(cli, connection, view, name, options)
    if (!yes) throw new CliError('refused', meaningOfRestore(view, name, host))
    const signer = await openSigner(cli, connection, key)
    const told = view.hosts.find(each => each.host === host)?.machine ?? ''
    const signedOrder = signAct(cli, signer, {
      ...{ act: 'restore', cluster, parameter: name, node: host },
      machine: machineOf(signer, cluster, host, told),
    })
    const act = await runAct(
      cli,
      connection,
      { act: 'restore', cluster, host, parameter: name, signedOrder },
      timeout,
    )
    await showAct(cli, act, output)
  })
}

/** What is lost by a restore, told before it is done. */
export function meaningOfRestore({ summary, hosts }: ClusterView, name: string, host: string): string {
  const others = hosts
    .filter(each => each.joined && each.host !== host && isServerRole(each.role))
    .map(each => each.host)
  const anew =
    others.length === 0
      ? ''
      : `\nOther servers hold the datastore as it is and must leave first: ${others.map(each => `\`muster leave ${each}\``).join(', ')}; \`muster rejoin\` lets each come back to ${host} afterwards.`
  return escapeLines(
    `cluster ${summary.name} would go back to snapshot ${name} on ${host}: everything that was changed in Kubernetes since it was made is lost, ` +
      `and the API is away meanwhile. ${host} becomes the only server.${anew}\nIf that is meant, say it again with --yes.`,
  )
}

function escapeLines(text: string): string {
  return text.split('\n').map(escapeText).join('\n')
}

/** The server that a snapshot lies on; asked of all of them where the operator did not say. */
async function serverWith(
  cli: Cli,
  connection: Connection,
  view: ClusterView,
  name: string,
  options: RestoreOptions,
): Promise<string> {
  const { on } = options
  if (on !== undefined) return hostsToAsk(view, on, true)[0]?.host ?? on
  const { snapshots } = await gatherSnapshots(cli, connection, view, options)
  const found = snapshots.filter(({ snapshot }) => snapshot.name === name).map(({ host }) => host)
  const [first, second] = found
  if (first === undefined) {
    throw new CliError(
      'notFound',
      `cluster ${view.summary.name}: no server that answered has a snapshot ${name}; \`muster cluster snapshots ${view.summary.name}\` lists them, --on HOST names a server`,
    )
  }
  if (second === undefined) return first
  throw new CliError('usage', `snapshot ${name} lies on ${found.map(escapeText).join(', ')}: say --on HOST`)
}
