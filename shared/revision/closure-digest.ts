import { sha256Hex } from '../ids.ts'

/** One path of a closure, as a store describes it. */
export interface ClosurePath {
  readonly path: string
  /** "sha256:" with base 32 or hex, or "sha256-" with base 64: versions of Nix differ in how they print it. */
  readonly narHash: string
}

/** The alphabet of Nix's base 32; the first character stands for the last bits. */
const BASE32 = '0123456789abcdfghijklmnpqrsvwxyz'

/**
 * SHA-256 over the lines "path sha256:hex", sorted, each with a line end. The hash is written the same way whichever
 * version of Nix named it, because publisher and node may have different ones. Undefined: a hash that cannot be read.
 */
export function closureDigest(paths: readonly ClosurePath[]): string | undefined {
  const lines: string[] = []
  for (const { path, narHash } of paths) {
    const hex = narHashHex(narHash)
    if (hex === undefined) return undefined
    lines.push(`${path} sha256:${hex}\n`)
  }
  return sha256Hex(lines.sort().join(''))
}

/** The SHA-256 in a NAR hash, in hex; undefined when it is written in no way that Nix is known to use. */
export function narHashHex(text: string): string | undefined {
  const [, digits] = /^sha256[:-](.+)$/.exec(text) ?? []
  if (digits === undefined) return undefined
  if (/^[0-9a-f]{64}$/.test(digits)) return digits
  if (/^[0-9a-df-np-sv-z]{52}$/.test(digits)) return hexOfBase32(digits)
  if (/^[A-Za-z0-9+/]{43}=$/.test(digits)) return Buffer.from(digits, 'base64').toString('hex')
  return undefined
}

function hexOfBase32(digits: string): string | undefined {
  const bytes = Buffer.alloc(32)
  for (let place = 0; place < digits.length; place++) {
    const value = BASE32.indexOf(digits[digits.length - 1 - place] ?? '')
    const bit = place * 5
    const [byte, shift] = [bit >> 3, bit & 7]
    const wide = value << shift
    bytes[byte] = (bytes[byte] ?? 0) | (wide & 0xff)
    const over = wide >> 8
    if (over === 0) continue
    // 52 digits hold 260 bits; the four above 256 must be zero.
    if (byte + 1 >= bytes.length) return undefined
    bytes[byte + 1] = (bytes[byte + 1] ?? 0) | over
  }
  return bytes.toString('hex')
}
