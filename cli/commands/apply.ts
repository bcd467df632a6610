import { status } from '@grpc/grpc-js'
import { RpcError } from '../../shared/errors.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { ApplyResponse, OperationSummary } from '../../shared/gen/muster/v1/operator_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { exitForOutcomes } from '../outcome-exit.ts'
import { startBoard } from '../output/board.ts'
import type { Format } from '../output/format.ts'
import { operationListing } from '../output/operation-listing.ts'
import { showList } from '../output/show-list.ts'
import { reportSelectorErrors } from './list-machines.ts'

export interface ApplyOptions {
  readonly where?: string | undefined
  readonly revision?: number | undefined
  readonly wait: boolean
  readonly timeout: number
  readonly output?: Format | undefined
}

const ORDER_TRIES = 5

/** Orders machines to a revision and, unless told otherwise, waits until each has an outcome. */
export async function apply(cli: Cli, refs: readonly string[], options: ApplyOptions): Promise<void> {
  if (refs.length === 0 && options.where === undefined) {
    throw new CliError(
      'usage',
      "apply: name hosts, or select them with --where EXPR (--where 'true' is all of them)",
    )
  }
  if (refs.length > 0 && options.where !== undefined) {
    throw new CliError('usage', 'apply: name hosts or say --where, not both')
  }
  await withCoordinator(cli, async connection => {
    const { operations, errors } = await order(cli, connection, refs, options)
    reportSelectorErrors(cli, errors, operations.length)
    if (operations.length === 0)
      throw new CliError('notFound', 'apply: nothing matches, so nothing was ordered')
    if (!options.wait) return showList(cli.io, operations, operationListing(cli.clock.now()), options.output)
    const ended = await waitForAll(cli, connection, operations, options.timeout)
    await showList(cli.io, ended, operationListing(cli.clock.now()), options.output)
    const exit = exitForOutcomes(ended.map(({ outcome }) => outcome?.class ?? OutcomeClass.UNKNOWN))
    if (exit !== 'ok') throw new CliError(exit, '')
  })
}

/** The same request id makes an order that is sent again, after its answer was lost, the same order. */
async function order(
  cli: Cli,
  { client, call }: Connection,
  refs: readonly string[],
  { where, revision }: ApplyOptions,
): Promise<ApplyResponse> {
  const requestId = randomId()
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await client.apply(
        { refs: [...refs], where: where ?? '', revision: BigInt(revision ?? 0), requestId },
        call,
      )
    } catch (error) {
      const again =
        error instanceof RpcError && error.code === status.UNAVAILABLE && attempt + 1 < ORDER_TRIES
      if (!again || !(await pause(backoffMs(attempt, { firstMs: 200, mostMs: 2_000 }), cli.signal)))
        throw error
    }
  }
}

async function waitForAll(
  cli: Cli,
  connection: Connection,
  ordered: readonly OperationSummary[],
  timeoutMs: number,
): Promise<OperationSummary[]> {
  const newest = new Map(ordered.map(operation => [operation.operationId, operation]))
  using board = startBoard(cli)
  for (const operation of ordered) board.update(operation)
  try {
    await withDeadline(timeoutMs, cli.signal, signal =>
      watchUntilEnded(connection, newest, signal, operation => board.update(operation)),
    )
  } catch (error) {
    const open = [...newest.values()].filter(({ outcome }) => !outcome)
    const how = `${open.length} of ${newest.size} have no outcome yet and go on; look with \`muster operations --watch\``
    if (error instanceof DeadlineError) {
      throw new CliError('unavailable', `not done within ${formatDuration(timeoutMs)}: ${how}`, {
        cause: error,
      })
    }
    if (cli.signal.aborted) throw new CliError('interrupted', `stopped waiting: ${how}`)
    throw error
  }
  return [...newest.values()]
}

/** Watches until every operation has an outcome. A coordinator that goes away is waited for, until the deadline. */
async function watchUntilEnded(
  { client }: Connection,
  newest: Map<string, OperationSummary>,
  signal: AbortSignal,
  onChange: (operation: OperationSummary) => void,
): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    const open = [...newest.values()].filter(({ outcome }) => !outcome).map(({ operationId }) => operationId)
    if (open.length === 0) return
    try {
      for await (const { operation } of client.watchOperations({ operationIds: open }, { signal })) {
        if (!operation) continue
        attempt = 0
        newest.set(operation.operationId, operation)
        onChange(operation)
        if ([...newest.values()].every(({ outcome }) => outcome)) return
      }
    } catch (error) {
      if (!(error instanceof RpcError && error.code === status.UNAVAILABLE)) throw error
    }
    if (!(await pause(backoffMs(attempt, { firstMs: 250, mostMs: 5_000 }), signal))) return
  }
}
