import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { RpcError } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import {
  type Rollout,
  type RolloutHost,
  RolloutHostState,
  RolloutService,
  RolloutState,
  type StartRolloutRequestSchema,
  type StartRolloutResponse,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError, type ExitName } from '../exit-codes.ts'
import { tryAgain } from '../orders/try-again.ts'
import { reasonsApart } from './run-act.ts'

/** So many of the rollouts that are under way are looked through. */
const OPEN_READ = 1_000

export async function startRollout(
  cli: Cli,
  connection: Connection,
  request: MessageInitShape<typeof StartRolloutRequestSchema>,
): Promise<StartRolloutResponse> {
  const service = connection.service(RolloutService)
  return tryAgain(cli.signal, () => service.startRollout(request, connection.call)).catch(
    (error: unknown) => {
      throw reasonsApart(error)
    },
  )
}

/** A rollout that does this to hosts of the cluster already; whoever asks again follows it. `unserved`: the coordinator has none. */
export async function findOpenRollout(
  connection: Connection,
  cluster: string,
  action: string,
  revision: bigint,
): Promise<Rollout | 'unserved' | undefined> {
  const service = connection.service(RolloutService)
  const listed = await service
    .listRollouts({ open: true, limit: OPEN_READ }, connection.call)
    .catch((error: unknown) => {
      if (error instanceof RpcError && error.code === status.UNIMPLEMENTED) return undefined
      throw error
    })
  if (!listed) return 'unserved'
  const { rollouts } = listed
  for (const { id, action: other, revision: at } of rollouts) {
    if (other !== action || at !== revision) continue
    const { rollout } = await service.getRollout({ id }, connection.call)
    if (rollout?.hosts.some(host => host.cluster === cluster)) return rollout
  }
  return undefined
}

/** Follows a rollout until it is over; each change of a host is a line on standard error. */
export async function followRollout(
  cli: Cli,
  connection: Connection,
  rollout: Rollout,
  timeoutMs: number,
): Promise<Rollout> {
  const hosts = new Map(rollout.hosts.map(host => [host.host, host]))
  let newest = rollout
  const said = new Map<string, string>()
  const tell = (key: string, line: string) => {
    if (line === '' || said.get(key) === line) return
    said.set(key, line)
    cli.io.err(`${escapeText(line)}\n`)
  }
  const see = (seen: Rollout) => {
    newest = seen
    for (const host of seen.hosts) {
      hosts.set(host.host, host)
      tell(host.host, `${host.host}: ${hostText(host)}`)
    }
    tell('', seen.reason === '' ? '' : `rollout ${seen.id}: ${seen.reason}`)
  }
  see(rollout)
  try {
    await withDeadline(timeoutMs, cli.signal, signal => watchUntilEnded(connection, rollout.id, signal, see))
  } catch (error) {
    const goesOn = `rollout ${rollout.id} goes on; ask again to follow it`
    if (error instanceof DeadlineError) {
      const text = `not done within ${formatDuration(timeoutMs)}: ${goesOn}`
      throw new CliError('unavailable', escapeText(text), { cause: error })
    }
    if (cli.signal.aborted) throw new CliError('interrupted', escapeText(`stopped waiting: ${goesOn}`))
    throw error
  }
  return { ...newest, hosts: [...hosts.values()] }
}

async function watchUntilEnded(
  connection: Connection,
  id: string,
  signal: AbortSignal,
  onChange: (rollout: Rollout) => void,
): Promise<void> {
  const service = connection.service(RolloutService)
  for (let attempt = 0; ; attempt += 1) {
    try {
      for await (const { rollout } of service.watchRollout({ id }, { signal })) {
        if (!rollout) continue
        attempt = 0
        onChange(rollout)
        if (rollout.ended) return
      }
    } catch (error) {
      if (!(error instanceof RpcError && error.code === status.UNAVAILABLE)) throw error
    }
    if (!(await pause(backoffMs(attempt, { firstMs: 250, mostMs: 5_000 }), signal))) return
  }
}

/** Where a host stands, in a few words. */
export function hostText({ state, step, waits, reason }: RolloutHost): string {
  switch (state) {
    case RolloutHostState.WAITING:
      return waits.length === 0
        ? 'its turn has not come'
        : `waits: ${waits.map(each => each.reason).join('; ')}`
    case RolloutHostState.MOVING:
      return [step || 'moves', ...waits.map(each => each.reason)].join(': ')
    case RolloutHostState.DONE:
      return 'done'
    case RolloutHostState.FAILED:
      return `failed: ${reason}`
    case RolloutHostState.LEFT:
      return `left as it is${reason === '' ? '' : `: ${reason}`}`
    case RolloutHostState.UNSPECIFIED:
      return ''
    default:
      return '' // a state that a newer coordinator knows
  }
}

/** How the command ends: only when every host got there it is done. */
export function exitForRollout({ state, hosts }: Rollout): ExitName {
  const done = hosts.filter(host => host.state === RolloutHostState.DONE).length
  if (state === RolloutState.SUCCEEDED && done === hosts.length) return 'ok'
  return done > 0 ? 'partial' : 'failed'
}
