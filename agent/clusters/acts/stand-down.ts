import { verifyEnvelope } from '../../../shared/envelope/envelope.ts'
import { ORDER_TYPE } from '../../../shared/envelope/payload-types.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { readOrder } from '../../../shared/operator-order/operator-order.ts'
import type { KnownTrust } from '../../../shared/trust/trust-set.ts'
import { type ActContext, type ActEnd, type ActFailure, failedAct, fromDriver, whyNotOurs } from './act.ts'

/**
 * Stops a server that came back with data from before its cluster was set back to a snapshot. An operator has to have ordered that
 * restore, on another machine, after this one had become a server; and another server must say that this one is none any more.
 */
export async function standDown(context: ActContext<'standDown'>): Promise<ActEnd> {
  const { driver, options, deps, action, order } = context
  const restored = judgeRestore(action.value.restore, deps.trust(), order.cluster, deps.identity.id)
  if (restored.kind === 'failed') return restored
  const notOurs = whyNotOurs(await driver.readState(options.signal))
  if (notOurs) return notOurs
  await context.begin()
  const stopped = await driver.standDown(restored.createdMs, options)
  return stopped.kind === 'failed' ? fromDriver(stopped) : { kind: 'done' }
}

/**
 * When an operator ordered that another machine of this cluster become its only server. Its time is over by now: that it was ordered
 * stays true, and whether it was done the servers say.
 */
export function judgeRestore(
  envelope: Envelope | undefined,
  trust: KnownTrust | undefined,
  cluster: string,
  own: string,
): { readonly kind: 'ordered'; readonly createdMs: number } | ActFailure {
  if (!trust) return failedAct('order-signature', 'this node has no trust set yet')
  const verified = verifyEnvelope(envelope, ORDER_TYPE, trust.keys, 1)
  if (verified.kind === 'refused') return failedAct('order-signature', `order to restore: ${verified.reason}`)
  const read = readOrder(verified.payload)
  if (!read.ok) return failedAct('order-malformed', `order to restore: ${read.reason}`)
  const { act, fleetId, machine, createdMs } = read.order
  if (fleetId !== trust.set.fleetId || read.order.cluster !== cluster || act !== 'restore')
    return failedAct('order-act', `the order is none to restore cluster ${cluster} of this fleet`)
  if (machine === '' || machine === own)
    return failedAct('order-machine', 'the order does not say that another machine was to be the only server')
  return { kind: 'ordered', createdMs }
}
