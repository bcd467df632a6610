import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { type GeneratedKey, generateMachineKey } from './machine-key.ts'
import { enrolmentProofText, signProof, verifyProof } from './proof.ts'

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

let key: GeneratedKey
let stranger: GeneratedKey
beforeAll(async () => {
  key = await generateMachineKey(2048)
  stranger = await generateMachineKey(2048)
})

const caId = 'ab'.repeat(32)

describe('enrolmentProofText', () => {
  it('is the documented text', () => {
    const nonce = Buffer.from('00ff', 'hex')
    const publicKey = Buffer.from('key')
    const facts = Buffer.from('facts')
    expect(enrolmentProofText({ nonce, caId, publicKey, facts, tokenId: 't1' })).toBe(
      `muster enrolment v1\n00ff\n${caId}\n${hash(publicKey)}\n${hash(facts)}\nt1\n`,
    )
  })

  it('differs as soon as anything in it differs', () => {
    const bytes = fc.uint8Array({ maxLength: 40 })
    const input = fc.record({ nonce: bytes, publicKey: bytes, facts: bytes, tokenId: fc.string() })
    fc.assert(
      fc.property(input, input, (a, b) => {
        const same =
          Buffer.from(a.nonce).equals(b.nonce) &&
          Buffer.from(a.publicKey).equals(b.publicKey) &&
          Buffer.from(a.facts).equals(b.facts) &&
          a.tokenId === b.tokenId
        expect(enrolmentProofText({ ...a, caId }) === enrolmentProofText({ ...b, caId })).toBe(same)
      }),
    )
  })

  it('refuses an authority’s id that is none', () => {
    const rest = { nonce: Buffer.alloc(32), publicKey: Buffer.alloc(1), facts: Buffer.alloc(1), tokenId: '' }
    expect(() => enrolmentProofText({ ...rest, caId: 'x\ny' })).toThrow('caId')
  })
})

describe('signProof and verifyProof', () => {
  it('verify with the key that signed, for this text only', () => {
    const signature = signProof(key.privateKeyPem, 'text')
    expect(verifyProof(key.publicKeyDer, 'text', signature)).toBe(true)
    expect(verifyProof(key.publicKeyDer, 'text2', signature)).toBe(false)
    expect(verifyProof(stranger.publicKeyDer, 'text', signature)).toBe(false)
  })

  it('say no to a damaged signature and to a key that is none', () => {
    const signature = signProof(key.privateKeyPem, 'text')
    fc.assert(
      fc.property(fc.nat({ max: signature.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, mask) => {
        const damaged = Buffer.from(signature)
        damaged[at] = (damaged[at] ?? 0) ^ mask
        expect(verifyProof(key.publicKeyDer, 'text', damaged)).toBe(false)
      }),
    )
    expect(verifyProof(key.publicKeyDer, 'text', Buffer.alloc(0))).toBe(false)
    expect(verifyProof(Buffer.from('x'), 'text', signature)).toBe(false)
  })
})
