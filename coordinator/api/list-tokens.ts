import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ListTokensRequest, ListTokensResponseSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import type { Store } from '../store/store.ts'
import { listTokenRows, tokenUses } from '../store/tokens.ts'
import type { Caller } from './caller.ts'
import { describeToken } from './describe-token.ts'

const MAX_TOKENS = 1_000
const MAX_USES_SHOWN = 10_000

/** The newest tokens, with the machines that each let in. */
export function listTokens({ store }: { readonly store: Store }) {
  return async (
    _request: ListTokensRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof ListTokensResponseSchema>> => {
    const rows = await listTokenRows(store.db, MAX_TOKENS)
    const uses = await tokenUses(
      store.db,
      rows.map(row => row.id),
      MAX_USES_SHOWN,
    )
    return { tokens: rows.map(row => describeToken(row, uses.get(row.id) ?? [])) }
  }
}
