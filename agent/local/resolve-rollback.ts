import { create } from '@bufbuild/protobuf'
import { type Order, OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { OperationReport } from '../../shared/gen/muster/v1/operation_pb.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { systemChange } from '../../shared/system-change.ts'

/** Without a name it is the newest operation that changed what runs, or may have or still may, and the system before it. */
export function resolveRollback(order: Order, history: readonly OperationReport[]): Order {
  if (order.action.case !== 'rollback' || order.action.value.operationId !== '') return order
  const newest = history.find(({ action, outcome }) =>
    outcome
      ? systemChange({ action, outcomeClass: outcome.class, phase: outcome.phase }) !== 'none'
      : action === 'apply' || action === 'rollback',
  )
  if (!newest) throw precondition('rollback: no operation of this node has changed what runs')
  return create(OrderSchema, {
    action: { case: 'rollback', value: { operationId: newest.operationId, before: true } },
  })
}
