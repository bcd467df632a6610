import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { closureDigest, narHashHex } from './closure-digest.ts'

// The hash of the empty string, as `nix hash to-base32`, `to-base16` and `to-sri` write it.
const hex = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
const base32 = '0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73'
const base64 = '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='

/** Nix's base 32, written from its definition: 5 bits a digit, the last ones first. */
function toBase32(bytes: Uint8Array): string {
  const alphabet = '0123456789abcdfghijklmnpqrsvwxyz'
  const number = [...bytes].reverse().reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)
  return Array.from(
    { length: 52 },
    (_, at) => alphabet[Number((number >> BigInt(5 * (51 - at))) & 31n)],
  ).join('')
}

describe('the hash of a NAR', () => {
  it('is the same however Nix writes it', () => {
    expect(toBase32(Buffer.from(hex, 'hex'))).toBe(base32)
    for (const text of [`sha256:${hex}`, `sha256:${base32}`, `sha256-${base64}`])
      expect(narHashHex(text)).toBe(hex)
  })

  it('is read from base 32 for all hashes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), bytes => {
        expect(narHashHex(`sha256:${toBase32(bytes)}`)).toBe(Buffer.from(bytes).toString('hex'))
      }),
    )
  })

  it.each([
    '',
    'sha256:',
    `sha512:${hex}`,
    `sha256:z${base32.slice(1)}`,
    `sha256:${base32}0`,
    `sha256-${hex.slice(1)}`,
  ])('is nothing where it stands otherwise: %s', text => expect(narHashHex(text)).toBeUndefined())
})

describe('the digest of a closure', () => {
  const paths = [
    { path: '/nix/store/a', narHash: `sha256:${hex}` },
    { path: '/nix/store/b', narHash: `sha256:${base32}` },
  ]

  it('does not depend on order or on the version of Nix, and on everything else', () => {
    const digest = closureDigest(paths)
    expect(digest).toMatch(/^[0-9a-f]{64}$/)
    expect(closureDigest(paths.toReversed().map(item => ({ ...item, narHash: `sha256-${base64}` })))).toBe(
      digest,
    )
    expect(closureDigest(paths.slice(1))).not.toBe(digest)
    expect(closureDigest([{ ...paths[0]!, narHash: `sha256:${'0'.repeat(64)}` }, paths[1]!])).not.toBe(digest)
    expect(closureDigest([{ ...paths[0]!, path: '/nix/store/c' }, paths[1]!])).not.toBe(digest)
  })

  it('is none where a hash cannot be read', () => {
    expect(closureDigest([...paths, { path: '/nix/store/c', narHash: 'md5:x' }])).toBeUndefined()
  })
})
