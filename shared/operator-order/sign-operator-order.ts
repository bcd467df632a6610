import { signEnvelope } from '../envelope/envelope.ts'
import type { SigningKeyPair } from '../envelope/keys.ts'
import { ORDER_TYPE } from '../envelope/payload-types.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import { encodeOrder, type OperatorOrder } from './operator-order.ts'

/** Signs an order with an operator's key. Throws a RangeError, naming the field, for an order that no node would take. */
export function signOperatorOrder(order: OperatorOrder, signingKey: SigningKeyPair): Envelope {
  return signEnvelope(encodeOrder(order), ORDER_TYPE, [signingKey])
}
