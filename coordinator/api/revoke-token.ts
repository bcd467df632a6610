import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type { RevokeTokenRequest, RevokeTokenResponseSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { notFound } from '../../shared/rpc/rpc-error.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import { findToken, revokeTokenRow, tokenUses } from '../store/tokens.ts'
import { actorOf, type Caller } from './caller.ts'
import { describeToken } from './describe-token.ts'

/** Ends a token. Machines that it let in stay; `evict` sends them away. */
export function revokeToken({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
  return async (
    { id }: RevokeTokenRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof RevokeTokenResponseSchema>> =>
    await store.transact(async tx => {
      const row = await findToken(tx, id)
      if (!row) throw notFound('id: there is no such token; it is the part before the first dot')
      if (row.revoked === 0) {
        await revokeTokenRow(tx, id)
        const actor = actorOf(caller)
        await recordEvent(tx, { at: clock.now(), class: 'token-revoked', reason: `token ${id}`, actor })
      }
      const uses = await tokenUses(tx, [id], 10_000)
      return { token: describeToken({ ...row, revoked: 1 }, uses.get(id) ?? []) }
    })
}
