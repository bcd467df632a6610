import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  WatchOperationsRequest,
  WatchOperationsResponseSchema,
} from '../../shared/gen/muster/v1/order_pb.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { ChangeFeed } from '../operations/change-feed.ts'
import { describeOperations } from '../operations/describe-operation.ts'
import { findOperations, type OperationRow } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import type { Caller } from './caller.ts'
import { requireOperations } from './list-operations.ts'

/** Operations whose states go out between two looks at the store. */
const PAGE = 50

/** Sends each operation as it is, then whenever it changes; ends when all have an outcome. */
export function watchOperations(deps: { readonly store: Store; readonly operationFeed: ChangeFeed }) {
  return async function* (
    request: WatchOperationsRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof WatchOperationsResponseSchema>> {
    const { store, operationFeed } = deps
    if (request.operationIds.length === 0) throw invalid('operation_ids: name at least one')
    // Before the first look, so that no change falls between the two.
    using watch = operationFeed.watch([...new Set(request.operationIds)])
    const open = new Set(request.operationIds)
    let rows: readonly OperationRow[] = await requireOperations(store, request.operationIds)
    for (;;) {
      for (let at = 0; at < rows.length; at += PAGE) {
        const page = rows.slice(at, at + PAGE)
        for (const row of page) if (row.outcome_class !== 0) open.delete(row.id)
        for (const operation of await describeOperations(store.db, page, 'full')) yield { operation }
      }
      if (open.size === 0) return
      const changed = await watch.next(signal)
      if (signal.aborted) return
      rows = await findOperations(
        store.db,
        [...changed].filter(id => open.has(id)),
      )
    }
  }
}
