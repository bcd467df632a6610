import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { signEnvelope } from '../envelope/envelope.ts'
import { generateSigningKey, type SigningKeyPair } from '../envelope/keys.ts'
import { MANIFEST_TYPE, TRUST_SET_TYPE } from '../envelope/payload-types.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import { type TrustSet, TrustSetSchema } from '../gen/muster/v1/trust_pb.ts'
import { makeFirstTrustSet, makeNextTrustSet } from './make-trust-set.ts'
import { type KnownTrust, readTrustSet } from './trust-set.ts'
import { walkTrust } from './walk-trust.ts'

const created = new Date('2026-01-01T00:00:00Z')
const fleetId = '0123456789abcdef0123456789abcdef'
const [ann, bob, spare, eve] = Array.from({ length: 4 }, generateSigningKey) as [
  SigningKeyPair,
  SigningKeyPair,
  SigningKeyPair,
  SigningKeyPair,
]
const trusted = (key: SigningKeyPair, comment = '') => ({ key, comment })

const first = makeFirstTrustSet({
  fleetId,
  keys: [trusted(ann, 'Ann'), trusted(bob, 'Bob')],
  threshold: 2,
  recoveryKeys: [trusted(spare)],
  caPins: ['a'.repeat(64)],
  coordinators: ['coordinator.home:7443', '[fd00::1]:7443'],
  created,
  signers: [ann, bob],
})
const second = makeNextTrustSet({
  current: first.trust,
  change: { keys: [trusted(eve)], threshold: 1 },
  created,
  signers: [ann, bob],
})
const third = makeNextTrustSet({
  current: second.trust,
  change: { coordinators: ['new.home:7443'] },
  created,
  signers: [eve],
})
const chain = [first.envelope, second.envelope, third.envelope]

function forge(change: Partial<TrustSet>, signers: SigningKeyPair[], type = TRUST_SET_TYPE): Envelope {
  const payload = toBinary(TrustSetSchema, create(TrustSetSchema, { ...second.trust.set, ...change }))
  return signEnvelope(payload, type, signers)
}
const fromFirst = (...offered: Envelope[]) => walkTrust({ kind: 'current', trust: first.trust }, offered)

describe('walkTrust', () => {
  it('walks from the pin of any set to the newest', () => {
    for (const { trust } of [first, second, third]) {
      const walk = walkTrust({ kind: 'pin', pin: trust.digest }, chain)
      expect(walk).toMatchObject({ kind: 'ok', changed: true, firstUse: false, trust: { number: 3 } })
    }
  })

  it('walks from what is known, with the whole chain or with its end', () => {
    expect(fromFirst(...chain)).toMatchObject({
      kind: 'ok',
      changed: true,
      trust: { digest: third.trust.digest },
    })
    expect(fromFirst(second.envelope)).toMatchObject({ kind: 'ok', trust: { number: 2 } })
    expect(walkTrust({ kind: 'current', trust: third.trust }, chain)).toMatchObject({
      kind: 'ok',
      changed: false,
    })
  })

  it('never goes back', () => {
    const walk = walkTrust({ kind: 'current', trust: third.trust }, [first.envelope, second.envelope])
    expect(walk).toMatchObject({ kind: 'ok', changed: false, trust: { number: 3 } })
    expect(walkTrust({ kind: 'current', trust: third.trust }, [])).toMatchObject({
      kind: 'ok',
      changed: false,
    })
  })

  it('refuses another set under a known number', () => {
    const other = forge({ threshold: 1, coordinators: ['evil:1'] }, [ann, bob])
    expect(walkTrust({ kind: 'current', trust: second.trust }, [other])).toMatchObject({ class: 'fork' })
  })

  it('refuses a set that too few of the old keys signed, whoever else did', () => {
    expect(fromFirst(forge({}, [ann]))).toMatchObject({ kind: 'refused', class: 'signature' })
    expect(fromFirst(forge({}, [eve]))).toMatchObject({ kind: 'refused', class: 'signature' })
    expect(fromFirst(forge({}, [ann, bob], MANIFEST_TYPE))).toMatchObject({ class: 'signature' })
  })

  it('lets one recovery key alone sign the next set', () => {
    expect(fromFirst(forge({}, [spare]))).toMatchObject({ kind: 'ok', trust: { number: 2 } })
  })

  it('refuses another fleet, a gap and a number that is taken', () => {
    expect(fromFirst(forge({ fleetId: 'f'.repeat(32) }, [ann, bob]))).toMatchObject({ class: 'fleet' })
    expect(fromFirst(forge({ number: 3n }, [ann, bob]))).toMatchObject({ class: 'gap' })
    expect(fromFirst(first.envelope, third.envelope)).toMatchObject({ class: 'gap' })
    expect(fromFirst(second.envelope, second.envelope)).toMatchObject({ class: 'gap' })
  })

  it('refuses a chain of another fleet also where nothing in it is newer', () => {
    const stranger = forge({ fleetId: 'f'.repeat(32) }, [ann, bob])
    expect(walkTrust({ kind: 'current', trust: third.trust }, [stranger])).toMatchObject({ class: 'fleet' })
  })

  it('believes all of a chain or nothing of it', () => {
    const broken = { ...third.envelope, signatures: [] }
    expect(fromFirst(second.envelope, broken)).toMatchObject({ kind: 'refused', class: 'signature' })
  })

  it('refuses a chain without the pinned set', () => {
    expect(walkTrust({ kind: 'pin', pin: 'a'.repeat(64) }, chain)).toMatchObject({ class: 'pin' })
    expect(walkTrust({ kind: 'pin', pin: '' }, chain)).toMatchObject({ class: 'pin' })
    expect(walkTrust({ kind: 'pin', pin: first.trust.digest }, [])).toMatchObject({ class: 'missing' })
  })

  it('without a pin takes the first set offered if its own keys signed it, and says so', () => {
    const walk = walkTrust({ kind: 'first-use' }, chain)
    expect(walk).toMatchObject({ kind: 'ok', firstUse: true, trust: { number: 3 } })
    expect(walkTrust({ kind: 'first-use' }, [forge({}, [ann])])).toMatchObject({ class: 'signature' })
    expect(walkTrust({ kind: 'first-use' }, [])).toMatchObject({ class: 'missing' })
  })

  it('refuses a chain in which any bit of a set is flipped', () => {
    const { payload } = second.envelope
    fc.assert(
      fc.property(fc.nat(payload.length * 8 - 1), bit => {
        const bad = Uint8Array.from(payload)
        bad[bit >> 3]! ^= 1 << (bit & 7)
        expect(fromFirst({ ...second.envelope, payload: bad }).kind).toBe('refused')
      }),
    )
  })

  it('never ends below where it began, whatever is offered', () => {
    const pool = [
      ...chain,
      forge({}, [spare]),
      forge({ number: 1n }, [ann, bob]),
      forge({ number: 4n }, [eve]),
    ]
    const known = [first.trust, second.trust, third.trust]
    fc.assert(
      fc.property(
        fc.constantFrom(...known),
        fc.array(fc.constantFrom(...pool), { maxLength: 5 }),
        (trust, offered) => {
          const walk = walkTrust({ kind: 'current', trust }, offered)
          if (walk.kind === 'refused') return
          expect(walk.trust.number).toBeGreaterThanOrEqual(trust.number)
          expect(walk.changed).toBe(walk.trust.digest !== trust.digest)
        },
      ),
    )
  })
})

describe('making trust sets', () => {
  it('refuses to make what machines would refuse', () => {
    const content = {
      fleetId,
      keys: [trusted(ann), trusted(bob)],
      threshold: 2,
      recoveryKeys: [],
      caPins: [],
      coordinators: [],
      created,
    }
    expect(() => makeFirstTrustSet({ ...content, signers: [ann] })).toThrow('2 of its own keys')
    expect(() => makeNextTrustSet({ current: first.trust, change: {}, created, signers: [ann] })).toThrow(
      'set 1',
    )
    expect(() => makeFirstTrustSet({ ...content, threshold: 3, signers: [ann, bob] })).toThrow('threshold')
    expect(() =>
      makeFirstTrustSet({ ...content, keys: [trusted(ann), trusted(ann)], signers: [ann] }),
    ).toThrow('twice')
    expect(() =>
      makeFirstTrustSet({ ...content, recoveryKeys: [trusted(ann)], signers: [ann, bob] }),
    ).toThrow('recovery')
  })

  it('keeps what a change leaves out', () => {
    expect(third.trust.set.keys).toEqual(second.trust.set.keys)
    expect(third.trust.set.caPins).toEqual(first.trust.set.caPins)
  })
})

describe('readTrustSet', () => {
  const read = (change: Partial<TrustSet>) =>
    readTrustSet(toBinary(TrustSetSchema, create(TrustSetSchema, { ...first.trust.set, ...change })))
  const [key] = first.trust.set.keys

  it('reads what was made, down to the same digest', () => {
    const { trust } = readTrustSet(first.trust.payload) as { trust: KnownTrust }
    expect(trust.digest).toBe(first.trust.digest)
    expect(trust.keys.map(({ keyId }) => keyId)).toEqual([ann.keyId, bob.keyId])
  })

  it.each<[string, Partial<TrustSet>]>([
    ['fleet_id', { fleetId: '' }],
    ['fleet_id', { fleetId: fleetId.toUpperCase() }],
    ['number', { number: 0n }],
    ['number', { number: 2n ** 60n }],
    ['keys', { keys: [] }],
    ['keys', { keys: Array.from({ length: 17 }, () => key!) }],
    ['keys[0]', { keys: [{ ...key!, publicKey: new Uint8Array(44) }] }],
    ['keys[0]', { keys: [{ ...key!, comment: 'x'.repeat(129) }] }],
    ['threshold', { threshold: 0 }],
    ['threshold', { threshold: 3 }],
    ['recovery_keys', { recoveryKeys: Array.from({ length: 5 }, () => key!) }],
    ['ca_pins', { caPins: ['abc'] }],
    ['ca_pins', { caPins: ['a'.repeat(64), 'a'.repeat(64)] }],
    ['coordinators', { coordinators: Array.from({ length: 9 }, () => 'a:1') }],
    ['coordinators', { coordinators: ['a:0'] }],
    ['coordinators', { coordinators: ['no port'] }],
  ])('T2: refuses a set whose %s is missing or wrong', (field, change) => {
    const result = read(change)
    expect(result).toMatchObject({ kind: 'refused', reason: expect.stringContaining(field) })
  })

  it('T2: refuses a set without a time, and one that is too long', () => {
    const { created: _, ...rest } = first.trust.set
    expect(readTrustSet(toBinary(TrustSetSchema, create(TrustSetSchema, rest))).kind).toBe('refused')
    expect(readTrustSet(new Uint8Array(70_000)).kind).toBe('refused')
  })
})
