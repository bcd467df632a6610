import { createDecipheriv, createPrivateKey, type KeyObject, privateDecrypt, verify } from 'node:crypto'
import { fromBinary } from '@bufbuild/protobuf'
import { type SealedBody, SealedBodySchema, type SealedSecret } from '../gen/muster/v1/cluster_pb.ts'
import { sha256Hex } from '../ids.ts'
import { keyId } from '../x509/key-id.ts'
import { readRsaPublicKey } from '../x509/public-key.ts'
import {
  KEY_BYTES,
  MAX_SECRET_BYTES,
  NONCE_BYTES,
  SEALED_PREFIX,
  SIGNATURE_PADDING,
  TAG_BYTES,
} from './seal-secret.ts'
import { bindingText, readBinding, type SecretBinding } from './secret-binding.ts'
import { SecretBytes } from './secret-bytes.ts'
import type { SpentSecrets } from './spent-secrets.ts'

/** Body and what frames it: the secret, a wrapped key of up to 512 bytes, the binding. */
const MAX_BODY_BYTES = MAX_SECRET_BYTES + 4096
const MAX_SIGNATURE_BYTES = 512
/** How far a minter's clock may be ahead, as for everything that is signed. */
export const MAX_AHEAD_MS = 5 * 60_000

/** What the opener knows by itself: from the signed manifest, its own key and its own journal. */
export interface ExpectedSecret {
  readonly binding: Pick<
    SecretBinding,
    'purpose' | 'fleetId' | 'cluster' | 'role' | 'recipient' | 'operationId'
  >
  /** Ids of the machines that the signed manifest names as servers of this cluster. */
  readonly minters: ReadonlySet<string>
  /** What was opened here before. */
  readonly spent: SpentSecrets
  readonly nowMs: number
}

export type OpenRefusal =
  /** Truncated, too long, or not of the form that a sealed secret has. */
  | 'malformed'
  /** Signed by a key that is no server of this cluster. */
  | 'minter'
  | 'signature'
  | 'purpose'
  | 'fleet'
  | 'cluster'
  | 'role'
  | 'recipient'
  | 'operation'
  | 'expired'
  /** Minted further in the future than clocks may differ. */
  | 'clock'
  | 'replayed'
  /** All is as it should be, and the key does not open it. */
  | 'sealed'

export type Opened =
  | {
      readonly kind: 'opened'
      readonly secret: SecretBytes
      readonly binding: SecretBinding
      /** By which it counts as spent: write that down before the secret is used. */
      readonly digest: string
    }
  | { readonly kind: 'refused'; readonly class: OpenRefusal; readonly reason: string }

/**
 * Opens a secret that is meant for this machine, this operation and this moment, minted by a server that the signed
 * manifest names; refuses any other before the private key is used. Only bytes that the signature covers are decoded. No
 * reason holds anything of the secret.
 */
export function openSecret(
  sealed: SealedSecret,
  privateKey: KeyObject | string,
  expected: ExpectedSecret,
): Opened {
  const verified = verifySealed(sealed, expected.minters)
  if (verified.kind === 'refused') return verified
  const { binding, body, digest } = verified
  const mismatch = compare(binding, expected)
  if (mismatch) return mismatch
  if (expected.spent.has(digest)) return refused('replayed', 'this secret was used here before')
  const key = typeof privateKey === 'string' ? createPrivateKey(privateKey) : privateKey
  const secret = decrypt(body, bindingText(binding), key)
  if (!secret) return refused('sealed', 'the secret is not sealed to this machine’s key')
  return { kind: 'opened', secret, binding, digest }
}

type VerifiedSeal =
  | {
      readonly kind: 'verified'
      readonly binding: SecretBinding
      readonly body: SealedBody
      readonly digest: string
    }
  | { readonly kind: 'refused'; readonly class: OpenRefusal; readonly reason: string }

function verifySealed(
  { body: bytes, signature, minterKey }: SealedSecret,
  minters: ReadonlySet<string>,
): VerifiedSeal {
  if (bytes.length === 0 || bytes.length > MAX_BODY_BYTES) {
    return refused('malformed', `body: ${bytes.length} bytes, wanted 1 to ${MAX_BODY_BYTES}`)
  }
  if (signature.length > MAX_SIGNATURE_BYTES)
    return refused('malformed', 'signature: longer than any that can be')
  const reading = readRsaPublicKey(minterKey)
  if (!reading.ok) return refused('malformed', `minter’s ${reading.reason}`)
  const minter = keyId(minterKey)
  if (!minters.has(minter)) {
    return refused('minter', `machine ${minter} is no server of this cluster by the signed manifest`)
  }
  const message = Buffer.concat([SEALED_PREFIX, bytes])
  if (!verify('sha256', message, { key: reading.key, ...SIGNATURE_PADDING }, signature)) {
    return refused('signature', `the signature is not one of machine ${minter} over this secret`)
  }
  let body: SealedBody
  try {
    body = fromBinary(SealedBodySchema, bytes)
  } catch {
    return refused('malformed', 'body: cannot be read')
  }
  const read = readBinding(body.binding)
  if (!read.ok) return refused('malformed', read.reason)
  if (read.binding.minter !== minter)
    return refused('minter', 'the secret names another minter than signed it')
  if (body.nonce.length !== NONCE_BYTES || body.ciphertext.length <= TAG_BYTES) {
    return refused('malformed', 'ciphertext: has not the form that AES-256-GCM gives it')
  }
  // By the ciphertext and its nonce, which the signature covers: a second signature over the same makes no second secret.
  return { kind: 'verified', binding: read.binding, body, digest: sha256Hex(body.ciphertext) }
}

function compare(binding: SecretBinding, { binding: wanted, nowMs }: ExpectedSecret) {
  if (binding.purpose !== wanted.purpose) return refused('purpose', 'the secret is for another purpose')
  if (binding.fleetId !== wanted.fleetId) return refused('fleet', 'the secret is of another fleet')
  if (binding.cluster !== wanted.cluster) {
    return refused(
      'cluster',
      `the secret is of cluster ${binding.cluster}, this machine belongs to ${wanted.cluster}`,
    )
  }
  if (binding.role !== wanted.role) return refused('role', 'the secret is for another role')
  if (binding.recipient !== wanted.recipient) {
    return refused('recipient', `the secret is for machine ${binding.recipient}`)
  }
  if (binding.operationId !== wanted.operationId) {
    return refused(
      'operation',
      `the secret is of operation ${binding.operationId}, not of ${wanted.operationId}`,
    )
  }
  if (nowMs >= binding.expiresMs) {
    return refused('expired', `the secret ended at ${new Date(binding.expiresMs).toISOString()}`)
  }
  if (binding.mintedMs > nowMs + MAX_AHEAD_MS) {
    return refused(
      'clock',
      `the secret was minted at ${new Date(binding.mintedMs).toISOString()}, which is yet to come`,
    )
  }
  return undefined
}

function decrypt(body: SealedBody, text: Buffer, key: KeyObject): SecretBytes | undefined {
  try {
    const dataKey = privateDecrypt({ key, oaepHash: 'sha256', oaepLabel: text }, body.wrappedKey)
    if (dataKey.length !== KEY_BYTES) return undefined
    const decipher = createDecipheriv('aes-256-gcm', dataKey, body.nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(text)
    decipher.setAuthTag(body.ciphertext.subarray(-TAG_BYTES))
    const secret = Buffer.concat([decipher.update(body.ciphertext.subarray(0, -TAG_BYTES)), decipher.final()])
    dataKey.fill(0)
    return new SecretBytes(secret)
  } catch {
    return undefined // why a decryption fails says nothing that helps, and could help who tries many
  }
}

function refused(kind: OpenRefusal, reason: string) {
  return { kind: 'refused', class: kind, reason } as const
}
