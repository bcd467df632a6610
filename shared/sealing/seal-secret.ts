import {
  constants,
  createCipheriv,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
  sign,
} from 'node:crypto'
import { create, toBinary } from '@bufbuild/protobuf'
import { SealedBodySchema, type SealedSecret, SealedSecretSchema } from '../gen/muster/v1/cluster_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { readRsaPublicKey } from '../x509/public-key.ts'
import { bindingMessage, bindingProblem, bindingText, type SecretBinding } from './secret-binding.ts'
import type { SecretBytes } from './secret-bytes.ts'

/** The longest secret: the keys of a cluster's authorities take some 20 KiB. */
export const MAX_SECRET_BYTES = 64 * 1024
/** Stands before what is signed, so that the signature can never be taken for one over anything else. */
export const SEALED_PREFIX = Buffer.from('muster sealed v1\n')
export const SIGNATURE_PADDING = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
export const KEY_BYTES = 32
export const NONCE_BYTES = 12
export const TAG_BYTES = 16

/**
 * Seals a secret to the recipient's key and signs it with the minter's own. Who recipient and minter are is taken from
 * the keys themselves. Throws a RangeError for what no caller may ask: a secret that is empty or too long, a binding that
 * has not its form. The caller has judged whether this recipient may have it (`judgeMint`).
 */
export function sealSecret(input: {
  readonly binding: Omit<SecretBinding, 'recipient' | 'minter'>
  readonly secret: SecretBytes
  /** SubjectPublicKeyInfo, DER. */
  readonly recipientKey: Uint8Array
  /** The minter's machine key. */
  readonly minterKey: KeyObject | string
}): SealedSecret {
  const { secret, recipientKey } = input
  if (secret.length === 0) throw new RangeError('secret: is empty')
  if (secret.length > MAX_SECRET_BYTES) {
    throw new RangeError(`secret: ${secret.length} bytes, at most ${MAX_SECRET_BYTES} can be sealed`)
  }
  const reading = readRsaPublicKey(recipientKey)
  if (!reading.ok) throw new RangeError(`recipient: ${reading.reason}`)
  const signingKey = typeof input.minterKey === 'string' ? createPrivateKey(input.minterKey) : input.minterKey
  const minterDer = createPublicKey(signingKey).export({ format: 'der', type: 'spki' })
  const binding = { ...input.binding, recipient: keyId(recipientKey), minter: keyId(minterDer) }
  const problem = bindingProblem(binding)
  if (problem !== undefined) throw new RangeError(problem)

  const text = bindingText(binding)
  const dataKey = randomBytes(KEY_BYTES)
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', dataKey, nonce)
  cipher.setAAD(text)
  const ciphertext = Buffer.concat([cipher.update(secret.reveal()), cipher.final(), cipher.getAuthTag()])
  const wrappedKey = publicEncrypt({ key: reading.key, oaepHash: 'sha256', oaepLabel: text }, dataKey)
  dataKey.fill(0)

  const message = create(SealedBodySchema, {
    binding: bindingMessage(binding),
    wrappedKey,
    nonce,
    ciphertext,
  })
  const body = toBinary(SealedBodySchema, message)
  const signature = sign('sha256', Buffer.concat([SEALED_PREFIX, body]), {
    key: signingKey,
    ...SIGNATURE_PADDING,
  })
  return create(SealedSecretSchema, { body, signature, minterKey: minterDer })
}
