import { sha256Hex } from '../ids.ts'

/** The id of whoever holds a key: SHA-256 of its SubjectPublicKeyInfo (DER), in lower-case hex. Also the form of a CA pin. */
export function keyId(publicKeyDer: Uint8Array): string {
  return sha256Hex(publicKeyDer)
}
