import { fromBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EnvelopeSchema } from '../gen/muster/v1/envelope_pb.ts'
import { decodeEnvelope, encodeEnvelope } from './decode-envelope.ts'
import { addSignature, MAX_PAYLOAD_BYTES, MAX_SIGNATURES, signEnvelope, verifyEnvelope } from './envelope.ts'
import { generateSigningKey, loadSigningKey, parseVerifyingKey, signingKeyPem } from './keys.ts'
import { encodePreAuth } from './pae.ts'
import { MANIFEST_TYPE, TRUST_SET_TYPE } from './payload-types.ts'

const [ann, bob, eve] = [generateSigningKey(), generateSigningKey(), generateSigningKey()]
const payload = new TextEncoder().encode('what is signed')
const signed = signEnvelope(payload, MANIFEST_TYPE, [ann])

describe('the bytes that are signed', () => {
  it('are those of the DSSE specification', () => {
    const text = encodePreAuth('http://example.com/HelloWorld', Buffer.from('hello world')).toString()
    expect(text).toBe('DSSEv1 29 http://example.com/HelloWorld 11 hello world')
  })

  it('differ for every other pair of type and payload', () => {
    fc.assert(
      fc.property(fc.string(), fc.uint8Array(), fc.string(), fc.uint8Array(), (typeA, a, typeB, b) => {
        const same = typeA === typeB && Buffer.from(a).equals(b)
        expect(encodePreAuth(typeA, a).equals(encodePreAuth(typeB, b))).toBe(same)
      }),
    )
  })
})

describe('verifyEnvelope', () => {
  it('gives back the signed bytes and who signed', () => {
    const both = addSignature(signed, bob)
    expect(verifyEnvelope(both, MANIFEST_TYPE, [ann, bob], 2)).toEqual({
      kind: 'verified',
      payload,
      signers: [ann.keyId, bob.keyId],
    })
  })

  it('refuses an envelope in which any bit is flipped', () => {
    const bytes = encodeEnvelope(signed)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const bad = Uint8Array.from(bytes)
      bad[bit >> 3]! ^= 1 << (bit & 7)
      const verified = verifyEnvelope(decodeEnvelope(bad), MANIFEST_TYPE, [ann], 1)
      expect(verified.kind, `bit ${bit}`).toBe('refused')
    }
  })

  it('believes nothing else than what was signed, even when the frame around it is read leniently', () => {
    const bytes = encodeEnvelope(signed)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const bad = Uint8Array.from(bytes)
      bad[bit >> 3]! ^= 1 << (bit & 7)
      let envelope: typeof signed
      try {
        envelope = fromBinary(EnvelopeSchema, bad)
      } catch {
        continue // not decodable at all
      }
      const verified = verifyEnvelope(envelope, MANIFEST_TYPE, [ann], 1)
      if (verified.kind === 'verified') {
        expect(verified).toMatchObject({ payload, signers: [ann.keyId] })
      }
    }
  })

  it('refuses an envelope that was cut anywhere', () => {
    const bytes = encodeEnvelope(signed)
    for (let length = 0; length < bytes.length; length++) {
      expect(verifyEnvelope(decodeEnvelope(bytes.subarray(0, length)), MANIFEST_TYPE, [ann], 1).kind).toBe(
        'refused',
      )
    }
    expect(verifyEnvelope(decodeEnvelope(bytes), MANIFEST_TYPE, [ann], 1).kind).toBe('verified')
  })

  it('T1: takes nothing from beside the signed bytes', () => {
    const payloadSwapped = { ...signed, payload: Buffer.from('what was not signed') }
    expect(verifyEnvelope(payloadSwapped, MANIFEST_TYPE, [ann], 1).kind).toBe('refused')
    const typeSwapped = { ...signed, payloadType: TRUST_SET_TYPE }
    expect(verifyEnvelope(typeSwapped, TRUST_SET_TYPE, [ann], 1).kind).toBe('refused')
    expect(verifyEnvelope(typeSwapped, MANIFEST_TYPE, [ann], 1).kind).toBe('refused')
    const otherKind = signEnvelope(payload, TRUST_SET_TYPE, [ann])
    expect(verifyEnvelope(otherKind, TRUST_SET_TYPE, [ann], 1).kind).toBe('verified')
    expect(verifyEnvelope(otherKind, MANIFEST_TYPE, [ann], 1).kind).toBe('refused')
  })

  it('counts different keys, not signatures', () => {
    const [signature] = signed.signatures
    const doubled = { ...signed, signatures: [signature!, signature!] }
    expect(verifyEnvelope(doubled, MANIFEST_TYPE, [ann, bob], 2).kind).toBe('refused')
    expect(verifyEnvelope(doubled, MANIFEST_TYPE, [ann, ann], 2).kind).toBe('refused')
  })

  it('does not count a signature under another key id', () => {
    const [signature] = signed.signatures
    const renamed = { ...signed, signatures: [signature!, { ...signature!, keyId: bob.keyId }] }
    expect(verifyEnvelope(renamed, MANIFEST_TYPE, [ann, bob], 2).kind).toBe('refused')
  })

  it('passes over signatures by strangers', () => {
    const withStranger = signEnvelope(payload, MANIFEST_TYPE, [eve, ann])
    expect(verifyEnvelope(withStranger, MANIFEST_TYPE, [ann], 1)).toMatchObject({ signers: [ann.keyId] })
    expect(verifyEnvelope(withStranger, MANIFEST_TYPE, [bob], 1).kind).toBe('refused')
  })

  it('accepts exactly when enough different trusted keys signed', () => {
    const keys = [ann, bob, eve]
    fc.assert(
      fc.property(
        fc.subarray(keys, { minLength: 1 }),
        fc.subarray(keys),
        fc.integer({ min: -1, max: 4 }),
        (signers, trusted, threshold) => {
          const envelope = signEnvelope(payload, MANIFEST_TYPE, signers)
          const good = signers.filter(key => trusted.includes(key)).length
          const expected = threshold >= 1 && good >= threshold ? 'verified' : 'refused'
          expect(verifyEnvelope(envelope, MANIFEST_TYPE, trusted, threshold).kind).toBe(expected)
        },
      ),
    )
  })

  it('T2: refuses what is missing or no number', () => {
    expect(verifyEnvelope(undefined, MANIFEST_TYPE, [ann], 1).kind).toBe('refused')
    expect(verifyEnvelope({ ...signed, signatures: [] }, MANIFEST_TYPE, [ann], 1).kind).toBe('refused')
    for (const threshold of [0, Number.NaN, 0.5]) {
      expect(verifyEnvelope(signed, MANIFEST_TYPE, [ann], threshold).kind).toBe('refused')
    }
    const empty = signEnvelope(new Uint8Array(), MANIFEST_TYPE, [ann])
    expect(verifyEnvelope(empty, MANIFEST_TYPE, [ann], 1)).toMatchObject({ reason: 'payload: missing' })
  })

  it('refuses more signatures and longer payloads than are allowed', () => {
    const [signature] = signed.signatures
    const many = { ...signed, signatures: Array.from({ length: MAX_SIGNATURES + 1 }, () => signature!) }
    expect(verifyEnvelope(many, MANIFEST_TYPE, [ann], 1)).toMatchObject({ kind: 'refused' })
    const long = { ...signed, payload: new Uint8Array(MAX_PAYLOAD_BYTES + 1) }
    expect(verifyEnvelope(long, MANIFEST_TYPE, [ann], 1)).toMatchObject({ kind: 'refused' })
    expect(() => signEnvelope(long.payload, MANIFEST_TYPE, [ann])).toThrow('payload')
  })

  it('N25: holds for every one of many signatures', () => {
    for (let count = 0; count < 300; count++) {
      const envelope = signEnvelope(Buffer.from(`revision ${count}`), MANIFEST_TYPE, [ann])
      expect(verifyEnvelope(envelope, MANIFEST_TYPE, [ann], 1).kind).toBe('verified')
    }
  })
})

describe('signing keys', () => {
  it('come back from their file with the same id', () => {
    const loaded = loadSigningKey(signingKeyPem(ann))
    expect(loaded.keyId).toBe(ann.keyId)
    const envelope = signEnvelope(payload, MANIFEST_TYPE, [loaded])
    expect(verifyEnvelope(envelope, MANIFEST_TYPE, [ann], 1).kind).toBe('verified')
  })

  it('are refused when they are something else, without showing what was read', () => {
    expect(() => loadSigningKey('secret words')).toThrow(/^signing key: not a private key in PEM[^\n]*$/)
    expect(() => loadSigningKey('x'.repeat(10_000))).toThrow('longer than')
  })

  it('have one encoding, so that one key cannot count twice', () => {
    expect(parseVerifyingKey(ann.der)).toMatchObject({ kind: 'ok', key: { keyId: ann.keyId } })
    const longForm = Buffer.concat([Buffer.from('30812a', 'hex'), Buffer.from(ann.der).subarray(2)])
    expect(parseVerifyingKey(longForm).kind).toBe('refused')
    expect(parseVerifyingKey(Buffer.concat([ann.der, Buffer.alloc(1)])).kind).toBe('refused')
    expect(parseVerifyingKey(new Uint8Array()).kind).toBe('refused')
  })
})
