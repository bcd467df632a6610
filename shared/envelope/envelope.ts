import { sign, verify } from 'node:crypto'
import { create } from '@bufbuild/protobuf'
import { type Envelope, EnvelopeSchema, EnvelopeSignatureSchema } from '../gen/muster/v1/envelope_pb.ts'
import type { SigningKeyPair, VerifyingKey } from './keys.ts'
import { encodePreAuth } from './pae.ts'

export const MAX_SIGNATURES = 16
export const MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
const SIGNATURE_BYTES = 64

export type Verified =
  | {
      readonly kind: 'verified'
      /** The bytes the signatures cover: decode these, and nothing else of the envelope. */
      readonly payload: Uint8Array
      /** Ids of the different trusted keys whose signatures are good. */
      readonly signers: readonly string[]
    }
  | { readonly kind: 'refused'; readonly reason: string }

/** Signs a payload with every key given. */
export function signEnvelope(
  payload: Uint8Array,
  payloadType: string,
  keys: readonly SigningKeyPair[],
): Envelope {
  if (keys.length === 0) throw new Error('envelope: at least one key must sign')
  if (payload.length > MAX_PAYLOAD_BYTES) {
    throw new Error(`envelope: payload of ${payload.length} bytes, at most ${MAX_PAYLOAD_BYTES} are allowed`)
  }
  const unsigned = create(EnvelopeSchema, { payload, payloadType, signatures: [] })
  return keys.reduce(addSignature, unsigned)
}

/** The envelope with one more signature; an earlier one by the same key is replaced. */
export function addSignature(envelope: Envelope, key: SigningKeyPair): Envelope {
  const message = encodePreAuth(envelope.payloadType, envelope.payload)
  const others = envelope.signatures.filter(({ keyId }) => keyId !== key.keyId)
  if (others.length >= MAX_SIGNATURES) throw new Error(`envelope: at most ${MAX_SIGNATURES} signatures`)
  const signature = create(EnvelopeSignatureSchema, {
    keyId: key.keyId,
    signature: sign(null, message, key.privateKey),
  })
  return create(EnvelopeSchema, {
    payload: envelope.payload,
    payloadType: envelope.payloadType,
    signatures: [...others, signature],
  })
}

/**
 * Checks that at least `threshold` different trusted keys signed exactly this payload as this type. Signatures by
 * unknown keys say nothing, neither for nor against; bad ones do not count.
 */
export function verifyEnvelope(
  envelope: Envelope | undefined,
  expectedType: string,
  trustedKeys: readonly VerifyingKey[],
  threshold: number,
): Verified {
  if (!envelope) return refused('envelope: missing')
  const { payload, payloadType, signatures } = envelope
  if (!Number.isInteger(threshold) || threshold < 1) return refused('threshold: must be at least 1')
  if (payloadType !== expectedType) return refused(`payload type: is not ${expectedType}`)
  if (payload.length === 0) return refused('payload: missing')
  if (payload.length > MAX_PAYLOAD_BYTES) {
    return refused(`payload: ${payload.length} bytes, at most ${MAX_PAYLOAD_BYTES} are allowed`)
  }
  if (signatures.length > MAX_SIGNATURES) {
    return refused(`signatures: ${signatures.length}, at most ${MAX_SIGNATURES} are allowed`)
  }
  const byId = new Map(trustedKeys.map(key => [key.keyId, key]))
  const message = encodePreAuth(payloadType, payload)
  const good = new Set<string>()
  for (const { keyId, signature } of signatures) {
    const key = byId.get(keyId)
    if (!key || good.has(keyId) || signature.length !== SIGNATURE_BYTES) continue
    if (verify(null, message, key.publicKey, signature)) good.add(keyId)
  }
  if (good.size < threshold) {
    return refused(
      `signatures: ${good.size} good ${good.size === 1 ? 'one' : 'ones'} by trusted keys, ${threshold} needed`,
    )
  }
  return { kind: 'verified', payload, signers: [...good] }
}

function refused(reason: string): Verified {
  return { kind: 'refused', reason }
}
