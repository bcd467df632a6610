import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type {
  ListOperatorsRequest,
  ListOperatorsResponseSchema,
} from '../../shared/gen/muster/v1/operator_account_pb.ts'
import { allOperators } from '../store/operators.ts'
import type { Store } from '../store/store.ts'
import type { Caller } from './caller.ts'

/** All operators by name, those that were removed too. */
export function listOperators({ store }: { readonly store: Store }) {
  return async (
    _request: ListOperatorsRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof ListOperatorsResponseSchema>> => {
    const rows = await allOperators(store.db)
    return {
      operators: rows.map(row => ({
        name: row.name,
        id: row.id,
        created: timestampFromMs(row.created),
        notAfter: timestampFromMs(row.not_after),
        removed: row.removed === 1,
      })),
    }
  }
}
