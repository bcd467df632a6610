import type { MessageInitShape } from '@bufbuild/protobuf'
import type { FollowLogsRequest, FollowLogsResponseSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { invalid, notFound } from '../../shared/rpc/rpc-error.ts'
import { latestOperations } from '../machines/latest-operations.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { type ChangeFeed, logKey } from '../operations/change-feed.ts'
import { findByStart } from '../operations/find-by-start.ts'
import { readLogChunks, tailStart } from '../store/logs.ts'
import { findOperation, type OperationRow } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import type { Caller } from './caller.ts'

export interface FollowLogsDeps {
  readonly store: Store
  readonly directory: Parameters<typeof resolveMachine>[0]
  readonly operationFeed: ChangeFeed
}

type Item = MessageInitShape<typeof FollowLogsResponseSchema>

const PAGE = 50
const MAX_TAIL = 1_000_000

/** What an operation printed; with `follow` also what it prints from here on, until it ends. */
export function followLogs(deps: FollowLogsDeps) {
  return async function* (
    request: FollowLogsRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<Item> {
    const { store, operationFeed } = deps
    if (request.tail > MAX_TAIL) throw invalid(`tail: at most ${MAX_TAIL} lines`)
    const operationId = (await findLogOperation(deps, request)).id
    // Before the first look, so that no line falls between the two.
    using watch = operationFeed.watch([operationId, logKey(operationId)])
    let { from, skip } =
      request.tail > 0 ? await tailStart(store.db, operationId, request.tail) : { from: 0, skip: 0 }
    let told = 0
    for (;;) {
      // Asked before the lines are read: lines that come with the end are read after it.
      const ended = ((await findOperation(store.db, operationId))?.outcome_class ?? 0) !== 0
      for (let page = await readLogChunks(store.db, operationId, from, PAGE); ; ) {
        for (const { first, lines, dropped } of page) {
          from = first + lines.length
          // The piece that counts what is left out keeps its number while its count grows.
          const more = lines.length === 0 ? dropped - told : dropped
          told = lines.length === 0 ? dropped : 0
          if (lines.length === 0 && more === 0) continue
          yield {
            operationId,
            first: BigInt(first + skip),
            lines: lines.slice(skip),
            dropped: BigInt(more),
          }
          skip = 0
        }
        if (page.length < PAGE || signal.aborted) break
        page = await readLogChunks(store.db, operationId, from, PAGE)
      }
      if (ended || !request.follow) {
        yield { operationId, first: BigInt(from), lines: [], dropped: 0n, end: ended }
        return
      }
      await watch.next(signal)
      if (signal.aborted) return
    }
  }
}

async function findLogOperation(
  { store, directory }: FollowLogsDeps,
  { ref, operationId }: FollowLogsRequest,
): Promise<OperationRow> {
  const machine = ref === '' ? undefined : resolveMachine(directory, ref).id
  if (operationId === '') {
    if (machine === undefined) throw invalid('ref: name a host or a machine, or give an operation_id')
    const newest = (await latestOperations(store.db, [machine])).get(machine)
    if (!newest) throw notFound(`ref: ${ref} has had no operation yet`)
    return newest
  }
  const found =
    (await findOperation(store.db, operationId)) ?? (await findByStart(store.db, 'operation_id', operationId))
  if (!found || (machine !== undefined && found.machine !== machine)) {
    throw notFound(`operation_id: there is no operation ${operationId.slice(0, 64)}${ref && ` of ${ref}`}`)
  }
  return found
}
