import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import type { OperatorOrder } from '../../../shared/operator-order/operator-order.ts'
import {
  type ExpectedOrder,
  verifyOperatorOrder,
} from '../../../shared/operator-order/verify-operator-order.ts'
import type { ActBase, ActFailure } from './act.ts'
import { failedAct } from './act.ts'

/**
 * Whether an operator signed this very act, and has not had it done before. Noted durably before it returns; an operation
 * that fails leaves the order good for another try.
 */
export async function obeyOperator(
  { deps, order, operation, update }: ActBase,
  envelope: Envelope | undefined,
  expected: Omit<ExpectedOrder, 'fleetId' | 'cluster'>,
): Promise<{ readonly kind: 'ok'; readonly order: OperatorOrder } | ActFailure> {
  const trust = deps.trust()
  if (!trust) return failedAct('order-signature', 'this node has no trust set yet')
  const { orders } = deps.replay
  if (!orders)
    return failedAct(
      'order-replayed',
      'nobody knows which orders were obeyed here: their record cannot be read',
    )
  const { id } = operation()
  const obeyed = { has: (other: string) => orders.get(other)?.done === true }
  const now = deps.clock.now()
  const whole = { ...expected, fleetId: trust.set.fleetId, cluster: order.cluster }
  const tries = expected.dead
    ? // The coordinator has a machine whose disk is empty taken out by another one, like one that is gone.
      [whole, ...(whole.machine === undefined ? [] : [{ ...whole, dead: false }])]
    : [whole]
  const verdicts = tries.map(each => verifyOperatorOrder(envelope, trust, each, obeyed, now))
  const verified = verdicts.find(each => each.kind === 'verified') ?? verdicts[0]
  if (verified?.kind !== 'verified')
    return failedAct(`order-${verified?.class ?? 'malformed'}`, verified?.reason ?? 'the order is missing')
  const { order: signed } = verified
  const seen = { id: signed.id, expiresMs: signed.expiresMs, operation: id, done: false }
  const why = await deps.replay.see(seen, now.getTime())
  if (why !== undefined) return failedAct('order-replayed', why)
  await update(before => ({ ...before, operatorOrder: { id: signed.id, expiresMs: signed.expiresMs } }))
  return { kind: 'ok', order: signed }
}
