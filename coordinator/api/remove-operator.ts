import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type {
  RemoveOperatorRequest,
  RemoveOperatorResponseSchema,
} from '../../shared/gen/muster/v1/operator_account_pb.ts'
import { notFound } from '../../shared/rpc/rpc-error.ts'
import type { OperatorBook } from '../machines/operator-book.ts'
import { recordEvent } from '../store/events.ts'
import { findOperator, markOperatorRemoved } from '../store/operators.ts'
import type { Store } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'

export interface RemoveOperatorDeps {
  readonly store: Store
  readonly operators: OperatorBook
  readonly clock: Clock
  /** Told whose calls must end, those that run too. */
  readonly onOperatorRemoved: (id: string) => void
}

/** Takes an operator's right to call away at once, whatever its certificate says. */
export function removeOperator({ store, operators, clock, onOperatorRemoved }: RemoveOperatorDeps) {
  return async (
    { name }: RemoveOperatorRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof RemoveOperatorResponseSchema>> => {
    const row = await store.transact(async tx => {
      const found = await findOperator(tx, name)
      if (!found || found.removed === 1) throw notFound(`name: there is no operator ${name}`)
      await markOperatorRemoved(tx, name)
      const reason = `operator ${name}, key ${found.id}`
      const actor = actorOf(caller)
      await recordEvent(tx, { at: clock.now(), class: 'operator-removed', reason, actor })
      return found
    })
    operators.put({ ...row, removed: 1 })
    onOperatorRemoved(row.id)
    return {}
  }
}
