import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { OperatorOrderSchema, type OperatorOrder as OrderMessage } from '../gen/muster/v1/cluster_pb.ts'
import { isDigest } from '../ids.ts'
import { isSnapshotName, SNAPSHOT_NAME_RULE } from '../kubernetes/snapshot-name.ts'
import { isHostName } from '../revision/host-name.ts'
import { millisOf } from '../time.ts'
import { isFleetId } from '../trust/trust-set.ts'
import { readRsaPublicKey } from '../x509/public-key.ts'

/** The acts that destroy or expose, and so need an operator's own signature. */
export const SIGNED_ACTS = ['leave', 'restore', 'rotate', 'wipe', 'kubeconfig'] as const
export type SignedAct = (typeof SIGNED_ACTS)[number]

/** With `wipe`: copies of the datastore stay. */
export const KEEP_SNAPSHOTS = 'keep-snapshots'

/** No order is good for longer, whatever its maker says. */
export const MAX_ORDER_LIFETIME_MS = 7 * 24 * 60 * 60_000
const MAX_ORDER_BYTES = 8 * 1024

/** What an operator orders of a node, for what, and until when. Times in milliseconds since 1970. */
export interface OperatorOrder {
  /** Random, 32 lower-case hex digits: by it the order counts once. */
  readonly id: string
  readonly fleetId: string
  readonly cluster: string
  readonly act: SignedAct
  /** The node it is about; empty: none, which only `kubeconfig`, `restore` and `rotate` of tokens may say. */
  readonly node: string
  /** The machine it is about, by the SHA-256 of its key; empty: none, where `node` may be or the machine is gone. */
  readonly machine: string
  /** With `leave`: the machine is gone. */
  readonly dead: boolean
  /** Name of the snapshot with `restore`, "tokens" or "certificates" with `rotate`, `KEEP_SNAPSHOTS` or nothing with `wipe`; else empty. */
  readonly parameter: string
  /** With `kubeconfig`: SubjectPublicKeyInfo (DER) of the key it is sealed to; else empty. */
  readonly recipientKey: Uint8Array
  readonly createdMs: number
  readonly expiresMs: number
}

export type OrderReading =
  | { readonly ok: true; readonly order: OperatorOrder }
  | { readonly ok: false; readonly reason: string }

/** Reads an order from bytes whose signature was found good. Every part must have its form: none has a default. */
export function readOrder(payload: Uint8Array): OrderReading {
  if (payload.length > MAX_ORDER_BYTES) {
    return bad(`order: ${payload.length} bytes, at most ${MAX_ORDER_BYTES} are read`)
  }
  let message: OrderMessage
  try {
    message = fromBinary(OperatorOrderSchema, payload)
  } catch {
    return bad('order: cannot be read')
  }
  // What a newer program added could narrow the order: whoever does not know it may not pass over it.
  if (message.$unknown?.length) return bad('order: has parts that this version does not know')
  const act = SIGNED_ACTS.find(each => each === message.act)
  if (act === undefined) return bad(`act: must be ${SIGNED_ACTS.join(', ')}`)
  const createdMs = millisOf(message.created)
  const expiresMs = millisOf(message.expires)
  if (createdMs === undefined) return bad('created: missing, or not a time')
  if (expiresMs === undefined) return bad('expires: missing, or not a time')
  const { id, fleetId, cluster, node, machine, dead, parameter, recipientKey } = message
  const order = {
    id,
    fleetId,
    cluster,
    act,
    node,
    machine,
    dead,
    parameter,
    recipientKey,
    createdMs,
    expiresMs,
  }
  const problem = orderProblem(order)
  return problem === undefined ? { ok: true, order } : bad(problem)
}

/** Serialises an order; throws a RangeError with the field's name when no node would take it. */
export function encodeOrder(order: OperatorOrder): Uint8Array {
  const problem = orderProblem(order)
  if (problem !== undefined) throw new RangeError(problem)
  const { createdMs, expiresMs, ...rest } = order
  const times = { created: timestampFromMs(createdMs), expires: timestampFromMs(expiresMs) }
  return toBinary(OperatorOrderSchema, create(OperatorOrderSchema, { ...rest, ...times }))
}

/** What is wrong with the form of an order; undefined: nothing. */
function orderProblem(order: OperatorOrder): string | undefined {
  const { id, fleetId, cluster, act, node, machine, dead, recipientKey, createdMs, expiresMs } = order
  if (!/^[0-9a-f]{32}$/.test(id)) return 'id: must be 32 lower-case hex digits'
  if (!isFleetId(fleetId)) return 'fleet_id: must be 32 lower-case hex digits'
  if (!isHostName(cluster)) return 'cluster: is not a name'
  if (node !== '' && !isHostName(node)) return 'node: is not a name'
  if (machine !== '' && !isDigest(machine)) return 'machine: must be 64 lower-case hex digits'
  if (dead && act !== 'leave') return `dead: says nothing with ${act}`
  if (namesNode(order) && node === '') return `node: must be named with ${act}`
  if (namesNode(order) && machine === '' && !dead) return `machine: must be named with ${act}`
  if (machine !== '' && node === '') return 'machine: says nothing without a node'
  const parameter = parameterProblem(order)
  if (parameter !== undefined) return parameter
  if (act !== 'kubeconfig' && recipientKey.length > 0) return `recipient_key: says nothing with ${act}`
  if (act === 'kubeconfig') {
    const reading = readRsaPublicKey(recipientKey)
    if (!reading.ok) return `recipient_key: ${reading.reason}`
  }
  if (!Number.isSafeInteger(createdMs) || !Number.isSafeInteger(expiresMs))
    return 'expires: is no whole number'
  const lifetimeMs = expiresMs - createdMs
  return lifetimeMs > 0 && lifetimeMs <= MAX_ORDER_LIFETIME_MS
    ? undefined
    : `expires: ${lifetimeMs / 1000} s after it was made, must be more than 0 and at most ${MAX_ORDER_LIFETIME_MS / 1000}`
}

/** Acts on one certain machine must say on which: an order for any would be an order for all. */
function namesNode({ act, parameter }: OperatorOrder): boolean {
  return act === 'leave' || act === 'wipe' || (act === 'rotate' && parameter === 'certificates')
}

function parameterProblem({ act, parameter }: OperatorOrder): string | undefined {
  switch (act) {
    case 'restore':
      return isSnapshotName(parameter)
        ? undefined
        : `parameter: must be the name of a snapshot; ${SNAPSHOT_NAME_RULE}`
    case 'rotate':
      return parameter === 'tokens' || parameter === 'certificates'
        ? undefined
        : 'parameter: must be tokens or certificates'
    case 'wipe':
      return parameter === '' || parameter === KEEP_SNAPSHOTS
        ? undefined
        : `parameter: must be ${KEEP_SNAPSHOTS} or nothing`
    case 'leave':
    case 'kubeconfig':
      return parameter === '' ? undefined : `parameter: says nothing with ${act}`
  }
}

function bad(reason: string): OrderReading {
  return { ok: false, reason }
}
