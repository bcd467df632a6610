import type { LogLines } from '../../shared/gen/muster/v1/agent_pb.ts'
import { denied, invalid } from '../../shared/rpc/rpc-error.ts'
import { findLogChunk, lastLogChunk, logTotals, putLogChunk } from '../store/logs.ts'
import { findOperation } from '../store/operations.ts'
import { logKey } from './change-feed.ts'
import type { OrderDeps } from './orders.ts'
import { type LogLimits, placeLogChunk } from './place-log-chunk.ts'

const MAX_LINES = 256
const MAX_LINE_CHARS = 4 * 1024
/** Of one operation. */
const LOG_LIMITS: LogLimits = { lines: 50_000, bytes: 8 * 1024 * 1024 }

/**
 * Keeps a piece of a node's build output and wakes who follows it. Idempotent; bounded for each operation, with the
 * lines that are left out counted. Output of operations that are not the machine's own is refused, of unknown ones
 * dropped: their report makes them known.
 */
export async function recordLog(
  { store, clock, operationFeed }: OrderDeps,
  machine: string,
  message: LogLines,
  limits: LogLimits = LOG_LIMITS,
): Promise<void> {
  const { operationId, lines, first, dropped } = message
  if (lines.length > MAX_LINES) throw invalid(`lines: ${lines.length}, at most ${MAX_LINES} are allowed`)
  if (first > BigInt(Number.MAX_SAFE_INTEGER) || dropped > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalid('first, dropped: too large for a count of lines')
  }
  const incoming = {
    first: Number(first),
    lines: lines.map(line =>
      line.length > MAX_LINE_CHARS ? `${line.slice(0, MAX_LINE_CHARS)} [cut]` : line,
    ),
    dropped: Number(dropped),
  }
  const result = await store.transact(async tx => {
    const operation = await findOperation(tx, operationId)
    if (!operation) return 'unknown'
    if (operation.machine !== machine) return 'foreign'
    const snapshot = {
      sameFirst: await findLogChunk(tx, operationId, incoming.first),
      last: await lastLogChunk(tx, operationId),
      totals: await logTotals(tx, operationId),
    }
    const chunk = placeLogChunk(incoming, snapshot, limits)
    if (chunk) await putLogChunk(tx, operationId, chunk, clock.now())
    return chunk ? 'kept' : 'known'
  })
  if (result === 'foreign') throw denied(`operation ${operationId}: belongs to another machine`)
  if (result === 'kept') operationFeed.notify(logKey(operationId))
}
