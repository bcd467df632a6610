import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ListOperationsRequest,
  ListOperationsResponseSchema,
} from '../../shared/gen/muster/v1/order_pb.ts'
import { invalid, notFound } from '../../shared/rpc/rpc-error.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { describeOperations } from '../operations/describe-operation.ts'
import { findByStart } from '../operations/find-by-start.ts'
import { findOperation, findOperations, listOperationRows, type OperationRow } from '../store/operations.ts'
import type { Store } from '../store/store.ts'

const DEFAULT_LIMIT = 100
const MOST = 1000
const MAX_OPERATION_IDS = 10_000
/** Operations that one answer tells with plan and signature. */
const MOST_IN_FULL = 100

export interface ListOperationsDeps {
  readonly store: Store
  readonly directory: Parameters<typeof resolveMachine>[0]
}

/** Operations by id, of one machine, or of all; newest first. */
export function listOperations({ store, directory }: ListOperationsDeps) {
  return async (
    request: ListOperationsRequest,
  ): Promise<MessageInitShape<typeof ListOperationsResponseSchema>> => {
    const { ref, limit, operationIds } = request
    if (limit > MOST) throw invalid(`limit: ${limit}, at most ${MOST} are allowed`)
    if (operationIds.length > 0) {
      if (ref !== '') throw invalid('ref, operation_ids: give one of the two')
      const rows = await requireOperations(store, await wholeIds(store, operationIds))
      const detail = rows.length <= MOST_IN_FULL ? 'full' : 'brief'
      return { operations: await describeOperations(store.db, rows, detail) }
    }
    const machine = ref === '' ? {} : { machine: resolveMachine(directory, ref).id }
    const rows = await listOperationRows(store.db, { ...machine, limit: limit || DEFAULT_LIMIT })
    return { operations: await describeOperations(store.db, rows) }
  }
}

/** Ids, of which a single one may be only the start: who asks for many has them from an answer. */
async function wholeIds(store: Store, ids: readonly string[]): Promise<readonly string[]> {
  const [only, second] = ids
  if (only === undefined || second !== undefined) return ids
  const row = (await findOperation(store.db, only)) ?? (await findByStart(store.db, 'operation_ids', only))
  return row ? [row.id] : ids
}

/** The operations of these ids, newest first. Throws NOT_FOUND naming one that does not exist. */
export async function requireOperations(store: Store, ids: readonly string[]): Promise<OperationRow[]> {
  const unique = [...new Set(ids)]
  if (unique.length > MAX_OPERATION_IDS) {
    throw invalid(`operation_ids: ${unique.length}, at most ${MAX_OPERATION_IDS} are allowed`)
  }
  const rows = await findOperations(store.db, unique)
  const found = new Set(rows.map(row => row.id))
  const missing = unique.find(id => !found.has(id))
  if (missing !== undefined) throw notFound(`operation_ids: there is no operation ${missing.slice(0, 64)}`)
  return rows.toSorted((a, b) => b.ordered - a.ordered || (a.id < b.id ? 1 : -1))
}
