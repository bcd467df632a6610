import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { sha256Hex } from '../ids.ts'

/** An Ed25519 key that verifies; its id is the SHA-256 of `der`, lower-case hex. */
export interface VerifyingKey {
  readonly keyId: string
  /** SubjectPublicKeyInfo. */
  readonly der: Uint8Array
  readonly publicKey: KeyObject
}

/** An Ed25519 key that signs. The private half exists at an operator only. */
export interface SigningKeyPair extends VerifyingKey {
  readonly privateKey: KeyObject
}

export type ParsedKey =
  | { readonly kind: 'ok'; readonly key: VerifyingKey }
  | { readonly kind: 'refused'; readonly reason: string }

/** All Ed25519 SubjectPublicKeyInfos begin so and are 44 bytes long (RFC 8410). */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')
const SPKI_LENGTH = 44
const MAX_PEM_CHARS = 8192

/**
 * Reads a public key. Only the one encoding that RFC 8410 gives a key is taken: with a second one, a single key could
 * stand in a trust set under two ids and count twice towards the threshold.
 */
export function parseVerifyingKey(der: Uint8Array): ParsedKey {
  const bytes = Buffer.from(der)
  if (bytes.length !== SPKI_LENGTH || !bytes.subarray(0, SPKI_PREFIX.length).equals(SPKI_PREFIX)) {
    return { kind: 'refused', reason: 'not an Ed25519 public key (SubjectPublicKeyInfo in DER, 44 bytes)' }
  }
  try {
    const publicKey = createPublicKey({ key: bytes, format: 'der', type: 'spki' })
    return { kind: 'ok', key: { keyId: sha256Hex(bytes), der: bytes, publicKey } }
  } catch {
    return { kind: 'refused', reason: 'not a usable Ed25519 public key' }
  }
}

export function generateSigningKey(): SigningKeyPair {
  return pairOf(generateKeyPairSync('ed25519').privateKey)
}

/** Reads a private key as `signingKeyPem` writes it. Throws when it is anything else; the message holds no key bytes. */
export function loadSigningKey(pem: string): SigningKeyPair {
  if (pem.length > MAX_PEM_CHARS) throw new Error(`signing key: longer than ${MAX_PEM_CHARS} characters`)
  let privateKey: KeyObject
  try {
    privateKey = createPrivateKey(pem)
  } catch {
    throw new Error('signing key: not a private key in PEM; expected the file that `muster init` wrote')
  }
  if (privateKey.asymmetricKeyType !== 'ed25519') {
    throw new Error(
      `signing key: is ${privateKey.asymmetricKeyType ?? 'of an unknown kind'}, must be ed25519`,
    )
  }
  return pairOf(privateKey)
}

/** PKCS #8 in PEM. A secret: it belongs in a file only its owner may read. */
export function signingKeyPem(key: SigningKeyPair): string {
  return key.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
}

function pairOf(privateKey: KeyObject): SigningKeyPair {
  const publicKey = createPublicKey(privateKey)
  const der = publicKey.export({ format: 'der', type: 'spki' })
  return { keyId: sha256Hex(der), der, publicKey, privateKey }
}
