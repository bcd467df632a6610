import { createPublicKey, type KeyObject } from 'node:crypto'
import { reasonOf } from '../errors.ts'
import { sha256Hex } from '../ids.ts'

export type PublicKeyReading =
  | { readonly ok: true; readonly key: KeyObject }
  | { readonly ok: false; readonly reason: string }

/** A key of 4096 bits takes 550 bytes. */
const MAX_BYTES = 1024
/** Keys whose reading is kept: as many as enrolments run at once, each of which reads its key several times. */
const MAX_KEPT = 128

const refuse = (reason: string): PublicKeyReading => ({ ok: false, reason })

/** Good readings by the digest of the very bytes, in the order of use. */
const kept = new Map<string, PublicKeyReading>()

/**
 * Reads a stranger's public key: RSA of 2048 to 4096 bits with the usual exponent. The bytes must be the canonical
 * encoding, since ids are hashes of them: otherwise one key could appear under any number of ids. A free choice of the
 * exponent would let a caller decide how long each verification takes us.
 */
export function readRsaPublicKey(der: Uint8Array): PublicKeyReading {
  if (der.length > MAX_BYTES)
    return refuse(`public key takes ${der.length} bytes, at most ${MAX_BYTES} are read`)
  const digest = sha256Hex(der)
  const known = kept.get(digest)
  const reading = known ?? readAnew(der)
  if (!reading.ok) return reading
  kept.delete(digest)
  kept.set(digest, reading)
  for (const oldest of kept.keys()) {
    if (kept.size <= MAX_KEPT) break
    kept.delete(oldest)
  }
  return reading
}

function readAnew(der: Uint8Array): PublicKeyReading {
  const usual = readUsual(Buffer.from(der.buffer, der.byteOffset, der.length))
  return usual ? { ok: true, key: usual } : readWithReason(der)
}

/** rsaEncryption with no parameters, as SubjectPublicKeyInfo names the kind of a key. */
const RSA_ENCRYPTION = Buffer.from('300d06092a864886f70d0101010500', 'hex')
const EXPONENT_65537 = Buffer.from('0203010001', 'hex')
/** Two bytes of length follow; so long is everything in a key of 2048 bits or more. */
const LONG = (tag: number) => Buffer.from([tag, 0x82])
const SEQUENCE = LONG(0x30)
const BIT_STRING = LONG(0x03)
const INTEGER = LONG(0x02)
const HEADER_BYTES = 4

/**
 * The one encoding that a good key of whole bytes has, compared byte for byte: OpenSSL takes thirty times as long to read
 * and write it as every enrolment and every session would pay. Undefined: look at it more closely.
 */
function readUsual(der: Buffer): KeyObject | undefined {
  const start = 3 * HEADER_BYTES + RSA_ENCRYPTION.length + 1
  const modulusAt = start + HEADER_BYTES
  const modulus = der.subarray(modulusAt, der.length - EXPONENT_65537.length)
  // The zero says that the number is positive, and stands there only because the next bit is set.
  if (modulus.length < 257 || modulus.length > 513 || modulus[0] !== 0 || (modulus[1] ?? 0) < 0x80)
    return undefined
  const canonical = Buffer.concat([
    headerOf(SEQUENCE, der.length - HEADER_BYTES),
    RSA_ENCRYPTION,
    headerOf(BIT_STRING, der.length - 2 * HEADER_BYTES - RSA_ENCRYPTION.length),
    Buffer.from([0]), // no unused bits
    headerOf(SEQUENCE, der.length - start),
    headerOf(INTEGER, modulus.length),
    modulus,
    EXPONENT_65537,
  ])
  if (!canonical.equals(der)) return undefined
  const jwk = { kty: 'RSA', n: modulus.subarray(1).toString('base64url'), e: 'AQAB' }
  return createPublicKey({ key: jwk, format: 'jwk' })
}

function headerOf(tag: Buffer, length: number): Buffer {
  return Buffer.from([...tag, length >> 8, length & 0xff])
}

function readWithReason(der: Uint8Array): PublicKeyReading {
  let key: KeyObject
  try {
    key = createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' })
  } catch (error) {
    return refuse(`public key is no SubjectPublicKeyInfo in DER: ${reasonOf(error)}`)
  }
  if (key.asymmetricKeyType !== 'rsa') {
    return refuse(`public key is ${key.asymmetricKeyType ?? 'of an unknown kind'}, wanted RSA`)
  }
  const { modulusLength, publicExponent } = key.asymmetricKeyDetails ?? {}
  if (modulusLength === undefined || modulusLength < 2048 || modulusLength > 4096) {
    return refuse(`public key has ${modulusLength ?? 'unknown'} bits, wanted 2048 to 4096`)
  }
  if (publicExponent !== 65537n) return refuse(`public key has the exponent ${publicExponent}, wanted 65537`)
  if (!key.export({ format: 'der', type: 'spki' }).equals(der)) {
    return refuse('public key is not encoded in canonical DER')
  }
  return { ok: true, key }
}
