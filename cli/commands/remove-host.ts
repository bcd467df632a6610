import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import { type ClusterAct, ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import { exitForAct, isDone } from '../clusters/act-state.ts'
import {
  decideFarewell,
  type Farewell,
  type FarewellFacts,
  type FarewellLine,
  type FarewellStep,
} from '../clusters/decide-farewell.ts'
import { fetchCluster, type Place, placeIn } from '../clusters/find-place.ts'
import { type ActRequest, followAct, runAct } from '../clusters/run-act.ts'
import { failureText } from '../clusters/show-act.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { hasNode, isServerRole } from '../output/cluster-listing.ts'
import type { Format } from '../output/format.ts'
import { type Listing, showList } from '../output/show-list.ts'
import { copiesOn } from './cluster-snapshots.ts'
import { drainHint, drainRequest, leaveRequest, wipeRequest } from './drain-host.ts'

export interface RemoveOptions {
  readonly dead?: boolean | undefined
  readonly wipe?: boolean | undefined
  /** What lies on it alone may be lost. */
  readonly yes?: boolean | undefined
  readonly drain: boolean
  readonly limit: number
  readonly deleteEmptydirData?: boolean | undefined
  readonly deleteUnmanaged?: boolean | undefined
  readonly key?: string | undefined
  /** Of a host that the newest revision does not name. */
  readonly cluster?: string | undefined
  readonly timeout: number
  readonly output?: Format | undefined
}

export const FAREWELL_FIELDS = ['step', 'state', 'why'] as const

/** As many of a cluster's newest acts are looked through for those of the host. */
const ACTS_READ = 500

/** The whole farewell of a host. What is done is seen, not remembered, so that it can be run again and goes on. */
export async function removeHost(cli: Cli, ref: string, options: RemoveOptions): Promise<void> {
  const { wipe = false, dead = false, drain } = options
  if (dead && wipe) {
    throw new CliError('usage', 'remove: --dead and --wipe: a machine that is gone cannot be wiped')
  }
  await withCoordinator(cli, async connection => {
    let before: FarewellStep | undefined
    let drained = false
    let host: string | undefined
    for (;;) {
      const { facts, place } = await readFacts(connection, ref, { cluster: options.cluster, drained, host })
      host = facts.host
      const farewell = decideFarewell(facts, { wipe, dead, drain })
      if (farewell.kind === 'refused') throw new CliError('refused', escapeText(farewell.reason))
      const { next, lines } = farewell
      if (before === undefined) {
        if (wipe && place && next !== undefined) await mindCopies(cli, connection, place, options)
        cli.io.err(`${escapeText(facts.host)}: ${summaryOf(lines)}\n`)
      }
      if (next === undefined) return finish(cli, facts.host, lines, options.output)
      if (next === before) {
        throw new CliError(
          'error',
          `${escapeText(facts.host)}: ${next} was done, and the coordinator does not show it; run \`muster remove ${escapeText(facts.host)}\` again later`,
        )
      }
      await takeStep(cli, connection, next, farewell, facts, place, options)
      before = next
      drained ||= next === 'drain'
    }
  })
}

/** Says what a wipe would lose for good, before anything is done: copies of the datastore that nobody carried elsewhere. */
async function mindCopies(
  cli: Cli,
  connection: Connection,
  { summary, host }: Place,
  { yes = false }: RemoveOptions,
): Promise<void> {
  // Of a server that left already its leave has named them.
  if (yes || !host.joined || !isServerRole(host.role)) return
  const view = await fetchCluster(connection, summary.name)
  const copies = await copiesOn(cli, connection, view, host.host)
  if (copies?.length === 0) return
  const which = copies
    ? `copies of the datastore lie on it: ${copies.join(', ')}`
    : 'whether copies of the datastore lie on it cannot be told now'
  const text = `${host.host}: ${which}. --wipe takes them away with the keys of the cluster in them: carry elsewhere what is needed, then say it again with --yes; without --wipe they stay.`
  throw new CliError('refused', escapeText(text))
}

async function readFacts(
  connection: Connection,
  ref: string,
  {
    cluster,
    drained,
    host,
  }: {
    readonly cluster: string | undefined
    readonly drained: boolean
    /** As which it was found before; once it is evicted nothing has to be left that has its name. */
    readonly host: string | undefined
  },
): Promise<{ readonly facts: FarewellFacts; readonly place: Place | undefined }> {
  const place = await placeIn(connection, ref, cluster)
  const machine = await findMachine(connection, place?.host.host ?? ref)
  if (!place && !machine && host === undefined) {
    throw new CliError(
      'notFound',
      `${escapeText(ref)}: is no host of a cluster, and no machine is bound to it; \`muster machines\` lists what there is`,
    )
  }
  const acts = place ? await actsOf(connection, place) : []
  const facts: FarewellFacts = {
    host: host ?? place?.host.host ?? (machine?.host || ref),
    machine: machine && { id: machine.id, online: machine.online },
    member: place && {
      cluster: place.summary.name,
      joined: place.host.joined,
      hasNode: hasNode(place.summary.distribution, place.host.role),
    },
    drained,
    acts,
  }
  return { facts, place }
}

async function actsOf(connection: Connection, { summary, host }: Place): Promise<readonly ClusterAct[]> {
  const { acts } = await connection
    .service(ClusterService)
    .listClusterActs({ cluster: summary.name, limit: ACTS_READ }, connection.call)
  return acts.filter(act => act.host === host.host)
}

/** The machine that can still be evicted. */
async function findMachine({ client, call }: Connection, ref: string): Promise<Machine | undefined> {
  try {
    const { machine } = await client.getMachine({ ref }, call)
    const away = machine?.state === MachineState.EVICTED || machine?.state === MachineState.BANNED
    return away ? undefined : machine
  } catch (error) {
    if (error instanceof RpcError && error.code === status.NOT_FOUND) return undefined
    throw error
  }
}

async function takeStep(
  cli: Cli,
  connection: Connection,
  step: FarewellStep,
  { follow, lines }: Extract<Farewell, { kind: 'go' }>,
  facts: FarewellFacts,
  place: Place | undefined,
  options: RemoveOptions,
): Promise<void> {
  const host = escapeText(facts.host)
  if (step === 'evict') {
    await connection.client.evictMachine(
      { ref: facts.machine?.id ?? facts.host, reason: `${facts.host} was removed` },
      connection.call,
    )
    cli.io.err(`${host}: evict: done\n`)
    return
  }
  if (!place) return
  const { timeout } = options
  const act = follow
    ? await followAct(cli, connection, follow, timeout)
    : await runAct(cli, connection, await requestFor(cli, connection, step, place, options), timeout)
  if (isDone(act)) return
  const left = lines
    .filter(({ state, step: other }) => state === 'left' && other !== step)
    .map(each => each.step)
  throw new CliError(
    exitForAct(act),
    `${failureText(act)}\n${step === 'drain' ? `${drainHint(host)}\n` : ''}` +
      `Left to do: ${[step, ...left].join(', ')}. \`muster remove ${host}\` goes on there.`,
  )
}

async function requestFor(
  cli: Cli,
  connection: Connection,
  step: Exclude<FarewellStep, 'evict'>,
  { summary, host }: Place,
  options: RemoveOptions,
): Promise<ActRequest> {
  switch (step) {
    case 'drain':
      return drainRequest(host.host, summary.name, options)
    case 'leave':
      return leaveRequest(cli, connection, summary.name, host, options)
    case 'wipe':
      return wipeRequest(cli, connection, summary.name, host, { key: options.key, keepSnapshots: false })
  }
}

function summaryOf(lines: readonly FarewellLine[]): string {
  const told = (state: FarewellLine['state']) =>
    lines.filter(each => each.state === state).map(({ step }) => step)
  const done = told('done')
  const left = told('left')
  return [
    ...(done.length > 0 ? [`done: ${done.join(', ')}`] : []),
    left.length > 0 ? `left to do: ${left.join(', ')}` : 'nothing is left to do',
  ].join('; ')
}

const farewellListing: Listing<FarewellLine> = {
  fields: FAREWELL_FIELDS,
  record: each => ({ ...each }),
  empty: '',
  columns: [
    { title: 'STEP', text: ({ step }) => step },
    { title: 'STATE', text: ({ state }) => state, style: ({ state }) => (state === 'done' ? 'good' : 'dim') },
    { title: 'WHY', wraps: true, text: ({ why }) => why },
  ],
}

async function finish(
  cli: Cli,
  host: string,
  lines: readonly FarewellLine[],
  output: Format | undefined,
): Promise<void> {
  await showList(cli.io, lines, farewellListing, output)
  cli.io.err(
    `${escapeText(host)} is removed. Take [hosts.${escapeText(host)}] out of fleet.toml and publish, or give the host to another machine.\n`,
  )
}
