import { escapeText } from '../../shared/escape.ts'
import type { ClusterHost, DatastoreSnapshot } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { isSnapshotName, SNAPSHOT_NAME_RULE } from '../../shared/kubernetes/snapshot-name.ts'
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
  if (name !== '' && !isSnapshotName(name)) throw new CliError('usage', SNAPSHOT_NAME_RULE)
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
  const hosts = serversToAsk(view, on)
  const gathered = await gather(cli, connection, view.summary.name, 'snapshots', hosts, timeout)
  const snapshots = gathered.flatMap(each => ('act' in each ? snapshotsOf(each.host, each.act) : []))
  return { snapshots, finish: () => reportSilent(cli, gathered) }
}

/** All servers that have a machine: also one that was installed anew, to which a snapshot was carried. */
function serversToAsk(view: ClusterView, on: string | undefined): readonly ClusterHost[] {
  if (on !== undefined) return hostsToAsk(view, on, true)
  const found = view.hosts.filter(
    ({ joined, machine, role }) => isServerRole(role) && (joined || machine !== ''),
  )
  if (found.length > 0) return found
  throw new CliError('refused', `cluster ${view.summary.name}: no machine is bound to a server of it`)
}

/** The names of the copies that lie on one server; undefined: it does not say. */
export async function copiesOn(
  cli: Cli,
  connection: Connection,
  view: ClusterView,
  host: string,
): Promise<readonly string[] | undefined> {
  const hosts = hostsToAsk(view, host, true)
  const [answer] = await gather(cli, connection, view.summary.name, 'snapshots', hosts, ASK_MS)
  if (!answer || !('act' in answer) || !isDone(answer.act)) return undefined
  return snapshotsOf(host, answer.act).map(({ snapshot }) => snapshot.name)
}

const ASK_MS = 30_000

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
  if (!isSnapshotName(name)) throw new CliError('usage', `${escapeText(name)}: ${SNAPSHOT_NAME_RULE}`)
  const { timeout, output, key, yes } = options
  await withCoordinator(cli, async connection => {
    const view = await fetchCluster(connection, cluster)
    const host = await serverWith(cli, connection, view, name, options)
    if (!yes) throw new CliError('refused', meaningOfRestore(view, name, host))
    const signer = await openSigner(cli, connection, key)
    const told = view.hosts.find(each => each.host === host)?.machine ?? ''
    const signedOrder = signAct(cli, signer, {
      act: 'restore',
      cluster,
      parameter: name,
      node: host,
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
  if (!hosts.some(each => each.joined && each.host === host)) {
    const lost =
      others.length === 0
        ? ''
        : `\n${others.join(', ')} had the cluster's data when last heard, and must be lost for good, or off: a server that came back would serve what there was before, beside ${host}.`
    return escapeLines(
      `cluster ${summary.name} would be brought back from snapshot ${name} on ${host}, which has nothing of it: everything that was changed in Kubernetes since it was made is lost. ` +
        `${host} becomes the only server; workers come back by themselves, other servers join anew.${lost}\nIf that is meant, say it again with --yes.`,
    )
  }
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
