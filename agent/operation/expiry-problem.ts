import type { Order } from '../../shared/gen/muster/v1/agent_pb.ts'
import { instantOf } from '../../shared/time.ts'
import { type PhaseFailure, refused } from './context.ts'

/** Why an order may not be begun any more, of whatever kind it is. */
export function expiryProblem({ expires: end }: Order, now: Date): PhaseFailure | undefined {
  const expires = instantOf(end)
  if (!expires) return refused('malformed', 'the order has no expiry')
  if (now < expires) return undefined
  return refused(
    'expired',
    `the order expired at ${expires.toISOString()}, before it could be begun (it is ${now.toISOString()} here); order it again`,
  )
}
