import { escapeText } from '../../shared/escape.ts'
import { ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { KEEP_SNAPSHOTS } from '../../shared/operator-order/operator-order.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { isDone } from '../clusters/act-state.ts'
import { newestWayOut } from '../clusters/decide-farewell.ts'
import { requirePlace } from '../clusters/find-place.ts'
import { type ActRequest, finishAct, runAct, startAct } from '../clusters/run-act.ts'
import { type ActOptions, showAct } from '../clusters/show-act.ts'
import { machineOf, openSigner, signAct } from '../clusters/signer.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'

interface HostOptions extends ActOptions {
  /** Of a host that the newest revision does not name. */
  readonly cluster?: string | undefined
}

export interface DrainOptions extends HostOptions {
  /** Milliseconds that pods are waited for. */
  readonly limit: number
  readonly deleteEmptydirData?: boolean | undefined
  readonly deleteUnmanaged?: boolean | undefined
}

type DrainChoice = Pick<DrainOptions, 'limit' | 'deleteEmptydirData' | 'deleteUnmanaged'>

/** What a drain is asked with. */
export function drainRequest(host: string, cluster: string, options: DrainChoice): ActRequest {
  const { limit, deleteEmptydirData, deleteUnmanaged } = options
  return {
    act: 'drain',
    host,
    cluster,
    drain: {
      limit: durationFromMs(limit),
      deleteEmptyDir: deleteEmptydirData ?? false,
      deleteUnmanaged: deleteUnmanaged ?? false,
    },
  }
}

/** Cordons a host's node and moves its pods off. */
export async function drain(cli: Cli, ref: string, options: DrainOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { summary, host } = await requirePlace(connection, ref, options.cluster)
    const request = drainRequest(host.host, summary.name, options)
    await run(cli, connection, request, options, drainHint(host.host))
  })
}

export function drainHint(host: string): string {
  return `The cordon stays: \`muster drain ${escapeText(host)}\` goes on where it was, \`muster uncordon ${escapeText(host)}\` lifts it.`
}

export async function cordon(cli: Cli, ref: string, options: HostOptions): Promise<void> {
  await onNode(cli, 'cordon', ref, options)
}

/** Lifts a cordon of ours. */
export async function uncordon(cli: Cli, ref: string, options: HostOptions): Promise<void> {
  await onNode(cli, 'uncordon', ref, options)
}

/** So many of a cluster's newest acts are looked through for those of a host. */
const ACTS_READ = 500

export interface RejoinOptions extends HostOptions {
  readonly wipe?: boolean | undefined
  readonly key?: string | undefined
}

/** Lets a host that left come back; with what is left of the cluster on its disk taken away first, where that keeps it out. */
export async function rejoin(cli: Cli, ref: string, options: RejoinOptions): Promise<void> {
  if (!options.wipe) return await onNode(cli, 'return', ref, options)
  if (!options.wait)
    throw new CliError('usage', 'rejoin: --wipe and --no-wait: it comes back only when it was wiped')
  await withCoordinator(cli, async connection => {
    const { summary, host } = await requirePlace(connection, ref, options.cluster)
    const request = await wipeRequest(cli, connection, summary.name, host, {
      ...options,
      keepSnapshots: true,
    })
    const wiped = await runAct(cli, connection, request, options.timeout)
    const { acts } = await connection
      .service(ClusterService)
      .listClusterActs({ cluster: summary.name, limit: ACTS_READ }, connection.call)
    // Who never left, as one that came back with what there was before, needs no leave to come back.
    const isOut = newestWayOut(acts.filter(act => act.host === host.host)) === 'leave'
    if (!isDone(wiped) || !isOut) return await showAct(cli, wiped, options.output)
    await run(cli, connection, { act: 'return', host: host.host, cluster: summary.name }, options)
  })
}

/** Has what is left of a cluster taken off a machine's disk, by an order that the operator signs. */
export async function wipeRequest(
  cli: Cli,
  connection: Connection,
  cluster: string,
  { host, machine: told }: { readonly host: string; readonly machine: string },
  { key, keepSnapshots }: { readonly key?: string | undefined; readonly keepSnapshots: boolean },
): Promise<ActRequest> {
  const signer = await openSigner(cli, connection, key)
  const machine = machineOf(signer, cluster, host, told)
  const parameter = keepSnapshots ? KEEP_SNAPSHOTS : ''
  const order = { act: 'wipe', cluster, parameter } as const
  return { ...order, host, signedOrder: signAct(cli, signer, { ...order, node: host, machine }) }
}

async function onNode(cli: Cli, act: string, ref: string, options: HostOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { summary, host } = await requirePlace(connection, ref, options.cluster)
    await run(cli, connection, { act, host: host.host, cluster: summary.name }, options)
  })
}

export interface LeaveOptions extends HostOptions {
  readonly dead?: boolean | undefined
  readonly key?: string | undefined
}

/** Makes a host leave its cluster, by an order that the operator signs. */
export async function leave(cli: Cli, ref: string, options: LeaveOptions): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { summary, host } = await requirePlace(connection, ref, options.cluster)
    const request = await leaveRequest(cli, connection, summary.name, host, options)
    await run(cli, connection, request, options)
  })
}

export async function leaveRequest(
  cli: Cli,
  connection: Connection,
  cluster: string,
  { host, machine: told }: { readonly host: string; readonly machine: string },
  { dead = false, key }: Pick<LeaveOptions, 'dead' | 'key'>,
): Promise<ActRequest> {
  const signer = await openSigner(cli, connection, key)
  const machine = machineOf(signer, cluster, host, told)
  if (machine === '' && !dead) {
    throw new CliError(
      'refused',
      `${escapeText(host)}: no machine is bound to it, so none can leave; if its machine is gone for good, say --dead`,
    )
  }
  const signedOrder = signAct(cli, signer, { act: 'leave', cluster, node: host, machine, dead })
  return { act: 'leave', host, cluster, dead, signedOrder }
}

async function run(
  cli: Cli,
  connection: Connection,
  request: ActRequest,
  { wait, timeout, output }: ActOptions,
  hint?: string,
): Promise<void> {
  const started = await startAct(cli, connection, request)
  if (wait) return await showAct(cli, await finishAct(cli, connection, started, timeout), output, hint)
  if (started.act) return await showAct(cli, started.act, output, hint)
  const { rollout } = started
  cli.io.err(`rollout ${rollout} does it when its turn comes: \`muster rollout watch ${rollout}\`\n`)
}
