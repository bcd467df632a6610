import { generateKeyPairSync } from 'node:crypto'
import { create, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addSignature, signEnvelope } from '../envelope/envelope.ts'
import { generateSigningKey } from '../envelope/keys.ts'
import { MANIFEST_TYPE, ORDER_TYPE } from '../envelope/payload-types.ts'
import { OperatorOrderSchema } from '../gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import { makeFirstTrustSet } from '../trust/make-trust-set.ts'
import { MAX_ORDER_LIFETIME_MS, type OperatorOrder, SIGNED_ACTS } from './operator-order.ts'
import { signOperatorOrder } from './sign-operator-order.ts'
import { type ExpectedOrder, verifyOperatorOrder } from './verify-operator-order.ts'

const NOW = Date.UTC(2026, 10, 1)
const fleetId = '0123456789abcdef0123456789abcdef'
const machine = 'ab'.repeat(32)
const [ann, bob, recovery, eve] = [
  generateSigningKey(),
  generateSigningKey(),
  generateSigningKey(),
  generateSigningKey(),
]
const recipientKey = Uint8Array.from(
  generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'der', type: 'spki' }),
)
const { trust } = makeFirstTrustSet({
  fleetId,
  keys: [
    { key: ann, comment: 'Ann' },
    { key: bob, comment: 'Bob' },
  ],
  threshold: 2,
  recoveryKeys: [{ key: recovery, comment: '' }],
  caPins: [],
  coordinators: [],
  created: new Date(NOW - 1000),
  signers: [ann, bob],
})

const leave: OperatorOrder = {
  id: 'd'.repeat(32),
  fleetId,
  cluster: 'home',
  act: 'leave',
  node: 'olaf',
  machine,
  dead: false,
  parameter: '',
  recipientKey: new Uint8Array(),
  createdMs: NOW,
  expiresMs: NOW + 3_600_000,
}
/** One good order of each act, and what a node that is asked for it expects. */
const ORDERS: Readonly<Record<(typeof SIGNED_ACTS)[number], OperatorOrder>> = {
  leave,
  wipe: { ...leave, act: 'wipe' },
  restore: { ...leave, act: 'restore', node: '', machine: '', parameter: 'before-1-35' },
  rotate: { ...leave, act: 'rotate', parameter: 'certificates' },
  kubeconfig: { ...leave, act: 'kubeconfig', node: '', machine: '', recipientKey },
}
const expectedOf = ({ act, cluster, dead, parameter }: OperatorOrder): ExpectedOrder => ({
  fleetId,
  cluster,
  act,
  dead,
  parameter,
  node: 'olaf',
  machine,
})

function verify(
  envelope: Envelope | undefined,
  expected: Partial<ExpectedOrder> = {},
  nowMs = NOW + 1000,
  seen: ReadonlySet<string> = new Set(),
) {
  return verifyOperatorOrder(envelope, trust, { ...expectedOf(leave), ...expected }, seen, new Date(nowMs))
}
const forge = (change: Parameters<typeof create<typeof OperatorOrderSchema>>[1], type = ORDER_TYPE) => {
  const { createdMs, expiresMs, ...rest } = leave
  const times = { created: timestampFromMs(createdMs), expires: timestampFromMs(expiresMs) }
  const payload = toBinary(OperatorOrderSchema, create(OperatorOrderSchema, { ...rest, ...times, ...change }))
  return signEnvelope(payload, type, [ann])
}

describe('an operator’s order', () => {
  it.each(SIGNED_ACTS)('to %s comes out as it was signed, by one key though a revision needs two', act => {
    const order = ORDERS[act]
    const verified = verify(signOperatorOrder(order, bob), expectedOf(order))
    expect(verified).toEqual({ kind: 'verified', order })
  })

  it('is refused with any bit of it flipped', () => {
    const good = signOperatorOrder(leave, ann)
    for (let bit = 0; bit < good.payload.length * 8; bit++) {
      const payload = Uint8Array.from(good.payload)
      payload[bit >> 3]! ^= 1 << (bit & 7)
      expect(verify({ ...good, payload }), `bit ${bit}`).toMatchObject({ class: 'signature' })
    }
    const [signature] = good.signatures
    fc.assert(
      fc.property(fc.nat(64 * 8 - 1), bit => {
        const bytes = Uint8Array.from(signature!.signature)
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        const bad = { ...good, signatures: [{ ...signature!, signature: bytes }] }
        expect(verify(bad)).toMatchObject({ class: 'signature' })
      }),
    )
  })

  it('is refused by whoever is asked for anything else than it says', () => {
    const order = signOperatorOrder(leave, ann)
    expect(verify(order, { fleetId: 'f'.repeat(32) })).toMatchObject({ class: 'fleet' })
    expect(verify(order, { cluster: 'away' })).toMatchObject({ class: 'cluster' })
    expect(verify(order, { act: 'wipe' })).toMatchObject({ class: 'act' })
    expect(verify(order, { dead: true })).toMatchObject({ class: 'act' })
    expect(verify(order, { node: 'ida' })).toMatchObject({ class: 'node' })
    expect(verify(order, { machine: 'cd'.repeat(32) })).toMatchObject({ class: 'machine' })
    expect(verify(order, { machine: undefined })).toMatchObject({ class: 'machine' })
    const restore = signOperatorOrder(ORDERS.restore, ann)
    const asked = expectedOf(ORDERS.restore)
    expect(verify(restore, { ...asked, parameter: 'another' })).toMatchObject({ class: 'parameter' })
    const here = signOperatorOrder({ ...ORDERS.restore, node: 'ida', machine: 'cd'.repeat(32) }, ann)
    expect(verify(here, asked)).toMatchObject({ class: 'node' })
  })

  it('is taken exactly when everything in it is what is expected', () => {
    const some = <T>(...values: T[]) => fc.constantFrom(...values)
    const orders = fc.record({
      cluster: some('home', 'away'),
      act: some<'leave' | 'wipe'>('leave', 'wipe'),
      node: some('olaf', 'ida'),
      machine: some(machine, 'cd'.repeat(32)),
    })
    fc.assert(
      fc.property(orders, orders, (said, asked) => {
        const verified = verify(signOperatorOrder({ ...leave, ...said }, ann), asked)
        const same = JSON.stringify(said) === JSON.stringify(asked)
        expect(verified.kind).toBe(same ? 'verified' : 'refused')
      }),
    )
  })

  it('of another fleet is refused, also where its keys are the same', () => {
    const other = 'f'.repeat(32)
    const order = signOperatorOrder({ ...leave, fleetId: other }, ann)
    expect(verify(order)).toMatchObject({ class: 'fleet' })
    expect(verify(order, { fleetId: other })).toMatchObject({ class: 'fleet' })
  })

  it('counts from when it was signed, five minutes of a wrong clock aside, until it ends', () => {
    const order = signOperatorOrder(leave, ann)
    expect(verify(order, {}, NOW - 5 * 60_000).kind).toBe('verified')
    expect(verify(order, {}, NOW - 5 * 60_000 - 1)).toMatchObject({ class: 'future' })
    expect(verify(order, {}, leave.expiresMs - 1).kind).toBe('verified')
    expect(verify(order, {}, leave.expiresMs)).toMatchObject({ class: 'expired' })
    expect(verify(order, {}, Number.NaN)).toMatchObject({ class: 'expired' })
  })

  it('lives for seven days at most', () => {
    const longest = { ...leave, expiresMs: NOW + MAX_ORDER_LIFETIME_MS }
    expect(verify(signOperatorOrder(longest, ann)).kind).toBe('verified')
    const tooLong = longest.expiresMs + 1
    expect(() => signOperatorOrder({ ...leave, expiresMs: tooLong }, ann)).toThrow('expires')
    expect(verify(forge({ expires: timestampFromMs(tooLong) }))).toMatchObject({ class: 'malformed' })
  })

  it('counts once', () => {
    const order = signOperatorOrder(leave, ann)
    expect(verify(order, {}, NOW, new Set([leave.id]))).toMatchObject({ class: 'replayed' })
    expect(verify(order, {}, NOW, new Set(['e'.repeat(32)])).kind).toBe('verified')
    // A second signature makes no second order of it.
    expect(verify(addSignature(order, bob), {}, NOW, new Set([leave.id]))).toMatchObject({
      class: 'replayed',
    })
  })

  it('is nothing without a signing key of the trust set', () => {
    for (const key of [eve, recovery]) {
      expect(verify(signOperatorOrder(leave, key))).toMatchObject({ class: 'signature' })
    }
    expect(verify(undefined)).toMatchObject({ class: 'signature' })
    expect(verify({ ...signOperatorOrder(leave, ann), signatures: [] })).toMatchObject({ class: 'signature' })
  })

  it('cannot be made of an envelope of another type, nor be one', () => {
    expect(verify(forge({}, MANIFEST_TYPE))).toMatchObject({ class: 'signature' })
    const renamed = { ...forge({}, MANIFEST_TYPE), payloadType: ORDER_TYPE }
    expect(verify(renamed)).toMatchObject({ class: 'signature' })
    expect(verify(forge({})).kind).toBe('verified')
  })

  it.each<[string, Parameters<typeof forge>[0]]>([
    ['id', { id: '' }],
    ['fleet_id', { fleetId: '' }],
    ['cluster', { cluster: '' }],
    ['act', { act: 'drain' }],
    ['act', { act: '' }],
    ['node', { node: '' }],
    ['node', { node: 'Not A Name' }],
    ['machine', { machine: '' }],
    ['machine', { machine: 'AB' }],
    ['machine', { act: 'wipe', machine: '' }],
    ['node', { act: 'rotate', parameter: 'certificates', node: '', machine: '' }],
    ['dead', { act: 'wipe', dead: true }],
    ['parameter', { parameter: 'x' }],
    ['parameter', { act: 'restore', parameter: '../etc' }],
    ['parameter', { act: 'rotate', parameter: '' }],
    ['recipient_key', { recipientKey }],
    ['recipient_key', { act: 'kubeconfig' }],
    ['created', { created: undefined }],
    ['expires', { expires: undefined }],
    ['expires', { expires: timestampFromMs(NOW) }],
  ])('with a good signature and a bad %s is refused (%#)', (field, change) => {
    expect(verify(forge(change))).toMatchObject({
      class: 'malformed',
      reason: expect.stringContaining(`${field}:`),
    })
  })

  it('with a part that is not known here is refused: it could be a condition', () => {
    const { payload } = forge({})
    const longer = Buffer.concat([payload, Buffer.from([0xf8, 0x07, 1])]) // field 127, a number
    expect(verify(signEnvelope(longer, ORDER_TYPE, [ann]))).toMatchObject({ class: 'malformed' })
    expect(verify(signEnvelope(Buffer.alloc(9000, 1), ORDER_TYPE, [ann]))).toMatchObject({
      class: 'malformed',
    })
    expect(verify(signEnvelope(Buffer.from('no order'), ORDER_TYPE, [ann]))).toMatchObject({
      class: 'malformed',
    })
  })

  it('about a machine that is gone needs no key of it, and is compared where it is known', () => {
    const gone = { ...leave, dead: true }
    const expected = { dead: true, machine: undefined }
    expect(verify(signOperatorOrder(gone, ann), expected).kind).toBe('verified')
    expect(verify(signOperatorOrder({ ...gone, machine: '' }, ann), expected).kind).toBe('verified')
    expect(verify(signOperatorOrder(gone, ann), { dead: true, machine: 'cd'.repeat(32) })).toMatchObject({
      class: 'machine',
    })
  })
})
