import { escapeText } from '../../shared/escape.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { requirePlace } from '../clusters/find-place.ts'
import { type ActRequest, finishAct, startAct } from '../clusters/run-act.ts'
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
    ...{ act: 'drain', host, cluster },
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

/** Lets a host that left come back. */
export async function rejoin(cli: Cli, ref: string, options: HostOptions): Promise<void> {
  await onNode(cli, 'return', ref, options)
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
