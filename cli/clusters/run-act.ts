import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { RpcError } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import {
  type ClusterAct,
  ClusterService,
  type StartClusterActRequestSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { tryAgain } from '../orders/try-again.ts'
import { actState, subjectOf } from './act-state.ts'

export type ActRequest = Omit<
  MessageInitShape<typeof StartClusterActRequestSchema>,
  'requestId' | '$typeName'
>

/** Asks for an act. The same request id makes one that is sent again, after its answer was lost, the same act. */
export async function startAct(cli: Cli, connection: Connection, request: ActRequest): Promise<ClusterAct> {
  const whole = { ...request, requestId: randomId() }
  const service = connection.service(ClusterService)
  const { act } = await tryAgain(cli.signal, () => service.startClusterAct(whole, connection.call)).catch(
    (error: unknown) => {
      throw reasonsApart(error)
    },
  )
  if (act) return act
  throw new CliError('error', `the coordinator told nothing of the ${request.act ?? 'act'} it began`)
}

/** A refusal for several reasons has one on a line. */
export function reasonsApart(error: unknown): unknown {
  if (!(error instanceof RpcError && error.code === status.FAILED_PRECONDITION)) return error
  return new CliError('refused', error.message.split('\n').map(escapeText).join('\n'), { cause: error })
}

/** Follows an act until it is over, and says on standard error what becomes of it. */
export async function followAct(
  cli: Cli,
  connection: Connection,
  act: ClusterAct,
  timeoutMs: number,
): Promise<ClusterAct> {
  let newest = act
  const tell = teller(cli)
  tell(act)
  try {
    await withDeadline(timeoutMs, cli.signal, signal =>
      watchUntilEnded(connection, act.id, signal, seen => {
        newest = seen
        tell(seen)
      }),
    )
  } catch (error) {
    const where = `it goes on; look with \`muster cluster show ${act.cluster}\``
    const what = `${subjectOf(act)}: ${act.act}`
    if (error instanceof DeadlineError) {
      throw new CliError(
        'unavailable',
        escapeText(`${what}: not done within ${formatDuration(timeoutMs)} (${actState(newest)}): ${where}`),
        { cause: error },
      )
    }
    if (cli.signal.aborted)
      throw new CliError('interrupted', escapeText(`${what}: stopped waiting: ${where}`))
    throw error
  }
  return newest
}

/** Starts an act and follows it to its end. */
export async function runAct(
  cli: Cli,
  connection: Connection,
  request: ActRequest,
  timeoutMs: number,
): Promise<ClusterAct> {
  return followAct(cli, connection, await startAct(cli, connection, request), timeoutMs)
}

/** One line for each change, so that a log of it reads as well as a terminal. */
function teller({ io }: Pick<Cli, 'io'>): (act: ClusterAct) => void {
  let said = ''
  return act => {
    const line = `${subjectOf(act)}: ${act.act}: ${actState(act)}`
    if (line === said) return
    said = line
    io.err(`${escapeText(line)}\n`)
  }
}

/** A coordinator that goes away is waited for, until the deadline. */
async function watchUntilEnded(
  connection: Connection,
  id: string,
  signal: AbortSignal,
  onChange: (act: ClusterAct) => void,
): Promise<void> {
  const service = connection.service(ClusterService)
  for (let attempt = 0; ; attempt += 1) {
    try {
      for await (const { act } of service.watchClusterAct({ id }, { signal })) {
        if (!act) continue
        attempt = 0
        onChange(act)
        if (act.ended) return
      }
    } catch (error) {
      if (!(error instanceof RpcError && error.code === status.UNAVAILABLE)) throw error
    }
    if (!(await pause(backoffMs(attempt, { firstMs: 250, mostMs: 5_000 }), signal))) return
  }
}
