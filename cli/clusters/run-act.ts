import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { escapeText } from '../../shared/escape.ts'
import {
  type ClusterAct,
  ClusterService,
  type StartClusterActRequestSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { type Rollout, type RolloutHost, RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { tryAgain } from '../orders/try-again.ts'
import { hostWords, isRolloutOver } from '../rollouts/rollout-words.ts'
import { actState, subjectOf } from './act-state.ts'

/** So often is looked whether the turn of an act has come. */
const LOOK_MS = 1_000

export type ActRequest = Omit<
  MessageInitShape<typeof StartClusterActRequestSchema>,
  'requestId' | '$typeName'
>

/** An act that was asked for. */
export interface AskedAct {
  readonly request: ActRequest & { readonly requestId: string }
  /** Undefined: a gate holds it. */
  readonly act: ClusterAct | undefined
  /** The rollout of one action that it is; empty: it disrupts nothing, and is none. */
  readonly rollout: string
}

/** Asks for an act. The same request id makes one that is sent again, after its answer was lost, the same act. */
export async function startAct(cli: Cli, connection: Connection, request: ActRequest): Promise<AskedAct> {
  const asked = await askAgain(connection, { ...request, requestId: randomId() }, cli.signal)
  if (asked.act || asked.rollout !== '') return asked
  throw new CliError('error', `the coordinator told nothing of the ${request.act ?? 'act'} it began`)
}

async function askAgain(
  connection: Connection,
  request: AskedAct['request'],
  signal: AbortSignal,
): Promise<AskedAct> {
  const service = connection.service(ClusterService)
  const { act, rolloutId } = await tryAgain(signal, () =>
    service.startClusterAct(request, connection.call),
  ).catch((error: unknown) => {
    throw reasonsApart(error)
  })
  return { request, act, rollout: rolloutId }
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

/** Asks for an act, waits for its turn and follows it to its end. */
export async function runAct(
  cli: Cli,
  connection: Connection,
  request: ActRequest,
  timeoutMs: number,
): Promise<ClusterAct> {
  return await finishAct(cli, connection, await startAct(cli, connection, request), timeoutMs)
}

/** Waits for the turn of an act and follows it to its end, both within the time. */
export async function finishAct(
  cli: Cli,
  connection: Connection,
  asked: AskedAct,
  timeoutMs: number,
): Promise<ClusterAct> {
  const begun = performance.now()
  const act = asked.act ?? (await awaitTurn(cli, connection, asked, timeoutMs))
  return await followAct(cli, connection, act, Math.max(1, timeoutMs - (performance.now() - begun)))
}

/** Waits until the planner has granted an act, and says on standard error which gate holds it. */
async function awaitTurn(
  cli: Cli,
  connection: Connection,
  { request, rollout: id }: AskedAct,
  timeoutMs: number,
): Promise<ClusterAct> {
  const { host = '', cluster = '', act = 'act' } = request
  const what = `${host || cluster}: ${act}`
  const where = `it goes on; look with \`muster rollout watch ${id}\`, end it with \`muster rollout abort ${id}\``
  let held = 'waits for its turn'
  let said = ''
  try {
    return await withDeadline(timeoutMs, cli.signal, async signal => {
      for (;;) {
        const { act: begun } = await askAgain(connection, request, signal)
        if (begun) return begun
        const { rollout } = await tryAgain(signal, () =>
          connection.service(RolloutService).getRollout({ id }, connection.call),
        )
        const [first] = rollout?.hosts ?? []
        if (!rollout || isRolloutOver(rollout)) throw neverBegun(what, rollout, first)
        held = first ? hostWords(first) : held
        const [wait] = first?.waits ?? []
        const line = `${what}: ${held}${wait ? `; opens when ${wait.opens}` : ''} (rollout ${id})`
        if (line !== said) cli.io.err(`${escapeText(line)}\n`)
        said = line
        if (!(await pause(LOOK_MS, signal))) throw new CliError('interrupted', 'stopped')
      }
    })
  } catch (error) {
    if (error instanceof DeadlineError) {
      const text = `${what}: not begun within ${formatDuration(timeoutMs)} (${held}): ${where}`
      throw new CliError('unavailable', escapeText(text), { cause: error })
    }
    if (cli.signal.aborted)
      throw new CliError('interrupted', escapeText(`${what}: stopped waiting: ${where}`))
    throw error
  }
}

function neverBegun(what: string, rollout: Rollout | undefined, host: RolloutHost | undefined): CliError {
  const why = host?.reason || rollout?.reason || 'its rollout is over'
  return new CliError('refused', escapeText(`${what}: was not begun: ${why}`))
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
