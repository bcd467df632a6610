import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { generateMachineKey } from './machine-key.ts'
import { readRsaPublicKey } from './public-key.ts'

const key = (await generateMachineKey(2048)).publicKeyDer

/** What OpenSSL says of the same bytes. */
function isGoodToOpenSsl(der: Buffer): boolean {
  try {
    const read = createPublicKey({ key: der, format: 'der', type: 'spki' })
    const { modulusLength = 0, publicExponent } = read.asymmetricKeyDetails ?? {}
    return (
      read.asymmetricKeyType === 'rsa' &&
      modulusLength >= 2048 &&
      modulusLength <= 4096 &&
      publicExponent === 65537n &&
      read.export({ format: 'der', type: 'spki' }).equals(der)
    )
  } catch {
    return false
  }
}

describe('reading a public key', () => {
  it.each([2048, 3072, 2056, 2050, 2054])('gives the very key of %i bits that OpenSSL reads', async bits => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: bits })
    const der = publicKey.export({ format: 'der', type: 'spki' })
    const reading = readRsaPublicKey(der)
    if (!reading.ok) throw new Error(reading.reason)
    expect(reading.key.export({ format: 'der', type: 'spki' })).toEqual(der)
    expect(reading.key.asymmetricKeyDetails).toMatchObject({ modulusLength: bits, publicExponent: 65537n })
  })

  it('agrees with OpenSSL about every changed, cut or lengthened key', () => {
    const change = fc.oneof(
      // Mostly where the structure is; elsewhere only the number changes.
      fc.record({
        at: fc.oneof(fc.nat(40), fc.integer({ min: key.length - 8, max: key.length - 1 }), fc.nat(293)),
        to: fc.nat(255),
      }),
      fc.record({ cut: fc.nat(key.length) }),
      fc.record({ more: fc.uint8Array({ minLength: 1, maxLength: 300 }) }),
    )
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 2 }), changes => {
        let der = Buffer.from(key)
        for (const each of changes) {
          if ('at' in each && der.length > 0) der[Math.min(each.at, der.length - 1)] = each.to
          else if ('cut' in each) der = der.subarray(0, each.cut)
          else if ('more' in each) der = Buffer.concat([der, each.more])
        }
        expect(readRsaPublicKey(der).ok).toBe(isGoodToOpenSsl(der))
      }),
      { numRuns: 1000 },
    )
  })
})
