import { X509Certificate } from 'node:crypto'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import { ApproveMachineRequestSchema } from '../../shared/gen/muster/v1/admission_pb.ts'
import { TrustReportSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import {
  ConfirmTrustRequestSchema,
  RotateAuthorityRequestSchema,
  SetFleetTrustRequestSchema,
} from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import {
  AddOperatorRequestSchema,
  ListOperatorsRequestSchema,
  RemoveOperatorRequestSchema,
} from '../../shared/gen/muster/v1/operator_account_pb.ts'
import { CreateTokenRequestSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { makeFirstTrustSet, makeNextTrustSet, type TrustContent } from '../../shared/trust/make-trust-set.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { OperatorBook } from '../machines/operator-book.ts'
import { recordTrustReport } from '../machines/record-session.ts'
import { idOf, openTestAuthorities, openTestFleet, type TestFleet } from '../machines/testing/test-fleet.ts'
import { trustNotice } from '../machines/trust-notice.ts'
import { addOperator } from './add-operator.ts'
import { approveMachine } from './approve-machine.ts'
import { confirmTrust } from './confirm-trust.ts'
import { createToken } from './create-token.ts'
import { listOperators } from './list-operators.ts'
import { removeOperator } from './remove-operator.ts'
import { rotateAuthority } from './rotate-authority.ts'
import { setFleetTrust } from './set-fleet-trust.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let key: GeneratedKey
let otherKey: GeneratedKey
beforeAll(async () => {
  made = await openTestAuthorities()
  ;[key, otherKey] = await Promise.all([generateMachineKey(2048), generateMachineKey(2048)])
})
afterAll(() => made[Symbol.asyncDispose]())

const local = { kind: 'local' } as const
const signer = generateSigningKey()
const content: TrustContent = {
  keys: [{ key: signer, comment: '' }],
  threshold: 1,
  recoveryKeys: [],
  caPins: [],
  coordinators: [],
}
const first = makeFirstTrustSet({
  ...content,
  fleetId: 'ab'.repeat(16),
  created: new Date(),
  signers: [signer],
})
const next = (change: Partial<TrustContent>, by = signer) =>
  makeNextTrustSet({ current: first.trust, change, created: new Date(), signers: [by] })

function setTrust(fleet: TestFleet, envelopes: Envelope[], changed: number[] = []) {
  const deps = { ...fleet.deps, onTrustChanged: (number: number) => changed.push(number) }
  return setFleetTrust(deps)(create(SetFleetTrustRequestSchema, { trust: { envelopes } }), local)
}

describe('setFleetTrust', () => {
  it('takes the first set as it is, later ones as machines do, and the same chain without effect', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const changed: number[] = []
    expect(await setTrust(fleet, [first.envelope], changed)).toEqual({
      number: 1n,
      digest: first.trust.digest,
    })
    const second = next({ coordinators: ['hub.example:7444'] })
    expect(await setTrust(fleet, [first.envelope, second.envelope], changed)).toMatchObject({ number: 2n })
    expect(await setTrust(fleet, [first.envelope, second.envelope], changed)).toMatchObject({ number: 2n })
    expect(await setTrust(fleet, [first.envelope], changed)).toMatchObject({ number: 2n })
    expect(changed).toEqual([1, 2])
    expect(fleet.deps.trust.chain()).toHaveLength(2)
    const token = await createToken(fleet.deps)(
      create(CreateTokenRequestSchema, { uses: 1, lifetime: durationFromMs(1_000) }),
      local,
    )
    expect(token.token?.split('.')[3]).toBe(second.trust.digest)
  })

  it('refuses a set that a stranger signed, a second one with a known number, and one that locks machines out', async () => {
    await using fleet = await openTestFleet(made.authorities)
    await setTrust(fleet, [first.envelope])
    const stranger = generateSigningKey()
    const theirs = makeFirstTrustSet({
      ...content,
      keys: [{ key: stranger, comment: '' }],
      fleetId: 'cd'.repeat(16),
      created: new Date(),
      signers: [stranger],
    })
    await expect(setTrust(fleet, [theirs.envelope])).rejects.toThrow('trust set 1')
    const forged = makeNextTrustSet({
      current: theirs.trust,
      change: {},
      created: new Date(),
      signers: [stranger],
    })
    await expect(setTrust(fleet, [forged.envelope])).rejects.toThrow()
    await expect(setTrust(fleet, [next({ caPins: ['0'.repeat(64)] }).envelope])).rejects.toThrow(
      'does not list',
    )
    await expect(setTrust(fleet, [])).rejects.toThrow('no trust set')
    expect(fleet.deps.trust.number).toBe(1)
  })
})

describe('confirmTrust', () => {
  it('refuses a chain that forked from its own, also when the fork ends below it', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const second = next({ coordinators: ['hub.example:7444'] })
    const third = makeNextTrustSet({
      current: second.trust,
      change: {},
      created: new Date(),
      signers: [signer],
    })
    await setTrust(fleet, [first.envelope, second.envelope, third.envelope])
    const fork = next({ coordinators: ['elsewhere.example:7444'] })
    await expect(setTrust(fleet, [first.envelope, fork.envelope])).rejects.toThrow(
      'set 2 is another one here',
    )
    expect(fleet.deps.trust.newest?.digest).toBe(third.trust.digest)
  })

  it('confirms only what is a set of this fleet, and tells the machine when it can', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const { deps } = fleet
    await setTrust(fleet, [first.envelope])
    for (const machine of [key, otherKey]) {
      await fleet.ask({ key: machine })
      await approveMachine(deps)(create(ApproveMachineRequestSchema, { ref: idOf(machine) }), local)
    }
    const report = (digest: string) => create(TrustReportSchema, { number: 1n, digest, firstUse: true })
    await recordTrustReport(deps, idOf(key), report(first.trust.digest))
    await recordTrustReport(deps, idOf(otherKey), report('e'.repeat(64)))
    const confirm = (ref: string) => confirmTrust(deps)(create(ConfirmTrustRequestSchema, { ref }), local)
    await expect(confirm(idOf(otherKey))).rejects.toThrow('do not confirm it')
    expect(await confirm('')).toEqual({ confirmed: 1 })
    expect(fleet.sent).toEqual([
      { message: { case: 'trust', value: { number: 1n, confirmedDigest: first.trust.digest } } },
    ])
    // Told again at its next connection, until it says that it took it.
    expect(trustNotice(deps.directory.get(idOf(key)), 1)).toMatchObject({
      confirmedDigest: first.trust.digest,
    })
    await recordTrustReport(
      deps,
      idOf(key),
      create(TrustReportSchema, { number: 1n, digest: first.trust.digest }),
    )
    expect(trustNotice(deps.directory.get(idOf(key)), 1)).toBeUndefined()
  })
})

describe('rotateAuthority', () => {
  it('adds, switches once the trust set lists the new one, and drops once nobody hangs on the old one', async () => {
    await using rotating = await openTestAuthorities()
    const { authorities } = rotating
    await using fleet = await openTestFleet(authorities)
    await fleet.ask({ key })
    await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(key) }), local)
    expect((await fleet.ask({ key })).case).toBe('certificate')
    const dropped: string[] = []
    const deps = { ...fleet.deps, onAuthorityDropped: (pin: string) => dropped.push(pin) }
    const take = (step: string, force = false) =>
      rotateAuthority(deps)(create(RotateAuthorityRequestSchema, { step, force }), local)
    const old = authorities.issuingPin
    await expect(take('switch')).rejects.toThrow('`add` one first')
    await expect(take('leap')).rejects.toThrow('one of add, switch, drop')
    const { authorities: both } = await take('add')
    const [, added] = both?.map(({ pin }) => pin ?? '') ?? []
    await expect(take('switch')).rejects.toThrow('does not list')
    await setTrust(fleet, [first.envelope, next({ caPins: [old, added ?? ''] }).envelope])
    await take('switch')
    expect(authorities.issuingPin).toBe(added)
    await expect(take('drop')).rejects.toThrow('1 machines')
    expect((await fleet.ask({ key })).case).toBe('certificate')
    // It renewed, but as far as anybody heard it never had a set with the authority that is shown from then on.
    await expect(take('drop')).rejects.toThrow(
      `${idOf(key).slice(0, 12)}: not known to have trust set 2, the first with ${added}`,
    )
    const has = create(TrustReportSchema, { number: 2n, digest: fleet.deps.trust.newest?.digest ?? '' })
    await recordTrustReport(fleet.deps, idOf(key), has)
    expect(await take('drop')).toMatchObject({ authorities: [{ pin: added, current: true }] })
    expect(dropped).toEqual([old])
  })
})

describe('operators', () => {
  it('are certified, listed, renewed with the same key, and removed at once and for good', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const removed: string[] = []
    const operators = await OperatorBook.load(fleet.deps.store.db)
    const deps = { ...fleet.deps, operators, onOperatorRemoved: (id: string) => removed.push(id) }
    const add = (request: MessageInitShape<typeof AddOperatorRequestSchema>) =>
      addOperator(deps)(create(AddOperatorRequestSchema, request), local)
    const publicKey = key.publicKeyDer
    const answer = await add({ name: 'ann', publicKey })
    expect(new X509Certificate(answer.chainPem ?? '').subject).toContain('OU=operator')
    expect(operators.nameOf(idOf(key))).toBe('ann')
    await add({ name: 'ann', publicKey, lifetime: durationFromMs(86_400_000) })
    await expect(add({ name: 'ann', publicKey: otherKey.publicKeyDer })).rejects.toThrow('another key')
    await expect(add({ name: 'bob', publicKey })).rejects.toThrow('operator ann')
    await expect(add({ name: 'Local', publicKey: otherKey.publicKeyDer })).rejects.toThrow('name')
    await expect(add({ name: 'local', publicKey: otherKey.publicKeyDer })).rejects.toThrow('name')
    await expect(add({ name: 'bob', publicKey: Uint8Array.of(1) })).rejects.toThrow('public_key')
    await removeOperator(deps)(create(RemoveOperatorRequestSchema, { name: 'ann' }), local)
    expect(removed).toEqual([idOf(key)])
    expect(operators.isAllowed(idOf(key))).toBe(false)
    expect((await OperatorBook.load(fleet.deps.store.db)).isAllowed(idOf(key))).toBe(false)
    await expect(add({ name: 'ann', publicKey })).rejects.toThrow('new key')
    await add({ name: 'ann', publicKey: otherKey.publicKeyDer })
    const { operators: listed } = await listOperators(deps)(create(ListOperatorsRequestSchema), local)
    expect(listed).toMatchObject([{ name: 'ann', id: idOf(otherKey), removed: false }])
  })
})
