import { verifyEnvelope } from '../envelope/envelope.ts'
import { ORDER_TYPE } from '../envelope/payload-types.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import type { KnownTrust } from '../trust/trust-set.ts'
import { type OperatorOrder, readOrder, type SignedAct } from './operator-order.ts'

/** How far the clock of whoever signed may be ahead, as for everything that is signed. */
const MAX_AHEAD_MS = 5 * 60_000

/** What the verifier is asked to do, from what it knows by itself: the fleet, its cluster, the node it would act on. */
export interface ExpectedOrder {
  readonly fleetId: string
  readonly cluster: string
  readonly act: SignedAct
  /** The node that would be acted on; with `kubeconfig`, `restore` and `rotate` the verifier's own. */
  readonly node: string
  /**
   * The machine that would be acted on; with `kubeconfig`, `restore` and `rotate` the verifier's own. Undefined: it cannot
   * be known here, which only the leave of a machine that is gone may say.
   */
  readonly machine: string | undefined
  readonly dead?: boolean | undefined
  readonly parameter: string
}

export type OrderRefusal =
  | 'signature'
  | 'malformed'
  | 'fleet'
  | 'cluster'
  | 'act'
  | 'node'
  | 'machine'
  | 'parameter'
  | 'expired'
  | 'future'
  | 'replayed'

export type VerifiedOrder =
  | { readonly kind: 'verified'; readonly order: OperatorOrder }
  | { readonly kind: 'refused'; readonly class: OrderRefusal; readonly reason: string }

/**
 * Whether an operator ordered this very act. One good signature by a signing key of the trust set suffices: the order is
 * one person's, as a revision is the fleet's. Only bytes that the signature covers are decoded. Whoever obeys remembers the id until
 * the order has expired, and a while longer for a clock that is set back, before it acts.
 */
export function verifyOperatorOrder(
  envelope: Envelope | undefined,
  trust: KnownTrust,
  expected: ExpectedOrder,
  seenIds: { has(id: string): boolean },
  now: Date,
): VerifiedOrder {
  const verified = verifyEnvelope(envelope, ORDER_TYPE, trust.keys, 1)
  if (verified.kind === 'refused') return refused('signature', `operator's order: ${verified.reason}`)
  const read = readOrder(verified.payload)
  if (!read.ok) return refused('malformed', `operator's order: ${read.reason}`)
  const { order } = read
  return (
    mismatch(order, trust.set.fleetId, expected) ??
    judgeTime(order, now) ??
    (seenIds.has(order.id)
      ? refused('replayed', "operator's order: was obeyed here before; ask again for a new one")
      : { kind: 'verified', order })
  )
}

function mismatch(order: OperatorOrder, fleetId: string, expected: ExpectedOrder): VerifiedOrder | undefined {
  if (order.fleetId !== expected.fleetId || order.fleetId !== fleetId) {
    return refused('fleet', "operator's order: is for another fleet")
  }
  if (order.cluster !== expected.cluster) {
    return refused('cluster', `operator's order: is for cluster ${order.cluster}, not ${expected.cluster}`)
  }
  if (order.act !== expected.act || order.dead !== (expected.dead ?? false)) {
    return refused('act', `operator's order: is for ${actOf(order)}, not ${actOf(expected)}`)
  }
  // Only acts that need no certain machine can leave node and machine out: readOrder refuses any other without.
  if (order.node !== '' && order.node !== expected.node) {
    return refused('node', `operator's order: is for ${order.node}, not ${expected.node}`)
  }
  if (order.machine !== '' && expected.machine === undefined && !order.dead) {
    return refused('machine', `operator's order: which machine ${expected.node} is cannot be known here`)
  }
  if (order.machine !== '' && expected.machine !== undefined && order.machine !== expected.machine) {
    return refused('machine', `operator's order: is for machine ${order.machine}, not ${expected.machine}`)
  }
  return order.parameter === expected.parameter
    ? undefined
    : refused(
        'parameter',
        `operator's order: is for ${order.parameter || 'nothing'}, not ${expected.parameter || 'nothing'}`,
      )
}

function judgeTime({ createdMs, expiresMs }: OperatorOrder, now: Date): VerifiedOrder | undefined {
  const nowMs = now.getTime()
  if (!Number.isFinite(nowMs))
    return refused('expired', "operator's order: this machine does not know the time")
  if (createdMs > nowMs + MAX_AHEAD_MS) {
    return refused(
      'future',
      `operator's order: signed at ${new Date(createdMs).toISOString()}, which is yet to come; compare the clocks`,
    )
  }
  return nowMs >= expiresMs
    ? refused(
        'expired',
        `operator's order: ended at ${new Date(expiresMs).toISOString()}; ask again for a new one`,
      )
    : undefined
}

function actOf({ act, dead }: { readonly act: SignedAct; readonly dead?: boolean | undefined }): string {
  return dead ? `${act} of a machine that is gone` : act
}

function refused(kind: OrderRefusal, reason: string): VerifiedOrder {
  return { kind: 'refused', class: kind, reason }
}
