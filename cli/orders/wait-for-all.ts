import { status } from '@grpc/grpc-js'
import type { OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import { DeadlineError, pause, withDeadline } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { formatDuration } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { startBoard } from '../output/board.ts'

/** Waits until every operation has an outcome and shows how far each is. They come back in the order given. */
export async function waitForAll(
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
