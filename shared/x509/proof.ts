import { constants, createPrivateKey, type KeyObject, sign, verify } from 'node:crypto'
import { isDigest, sha256Hex } from '../ids.ts'
import { readRsaPublicKey } from './public-key.ts'

/** What a machine signs to show that it holds the key it asks a certificate for. */
export interface EnrolmentProof {
  readonly nonce: Uint8Array
  /** The pin of the authority whose chain the machine has proved, never one it was merely told. */
  readonly caId: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  /** The serialised facts, as sent. */
  readonly facts: Uint8Array
  /** Empty without a token. */
  readonly tokenId: string
}

/** The text to sign, as `proto/muster/v1/enrolment.proto` documents it. The token's id comes last, so its extent is never in doubt. */
export function enrolmentProofText({ nonce, caId, publicKey, facts, tokenId }: EnrolmentProof): string {
  if (!isDigest(caId)) throw new RangeError('caId: wanted 64 lower-case hex characters')
  const nonceHex = Buffer.from(nonce).toString('hex')
  return `muster enrolment v1\n${nonceHex}\n${caId}\n${sha256Hex(publicKey)}\n${sha256Hex(facts)}\n${tokenId}\n`
}

const SALT_BYTES = 32
const padding = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: SALT_BYTES }

/** Signs with RSA-PSS (SHA-256, salt of 32 bytes). */
export function signProof(privateKey: KeyObject | string, text: string): Buffer {
  const key = typeof privateKey === 'string' ? createPrivateKey(privateKey) : privateKey
  return sign('sha256', Buffer.from(text), { key, ...padding })
}

/** Whether the holder of the key signed the text. A key that may not be used is a plain no: the caller refuses either way. */
export function verifyProof(publicKeyDer: Uint8Array, text: string, signature: Uint8Array): boolean {
  const reading = readRsaPublicKey(publicKeyDer)
  return reading.ok && verify('sha256', Buffer.from(text), { key: reading.key, ...padding }, signature)
}
