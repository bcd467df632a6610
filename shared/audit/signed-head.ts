import { constants, createPrivateKey, sign, verify } from 'node:crypto'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { reasonOf } from '../errors.ts'
import {
  type AuditHeadStatement,
  AuditHeadStatementSchema,
  type SignedAuditHead,
  SignedAuditHeadSchema,
} from '../gen/muster/v1/agent_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { readRsaPublicKey } from '../x509/public-key.ts'
import type { ChainHead } from './event-chain.ts'

const MAX_STATEMENT_BYTES = 8 * 1024
const MAX_HEADS = 64
const MAX_SIGNATURE_BYTES = 512
/** Stands before what is signed, so that the signature can never be taken for one over anything else. */
const PREFIX = Buffer.from('muster audit head v1\n')
const padding = { padding: constants.RSA_PKCS1_PADDING }

/** What a machine says of the chain it was shown, under its own key. */
export function signHead(
  key: { readonly privateKeyPem: string; readonly publicKeyDer: Uint8Array },
  nonce: string,
  heads: readonly ChainHead[],
): SignedAuditHead {
  const statement = toBinary(
    AuditHeadStatementSchema,
    create(AuditHeadStatementSchema, {
      machine: keyId(key.publicKeyDer),
      nonce,
      heads: heads.map(({ id, hash }) => ({ id: BigInt(id), hash })),
    }),
  )
  const message = Buffer.concat([PREFIX, statement])
  const signature = sign('sha256', message, { key: createPrivateKey(key.privateKeyPem), ...padding })
  return create(SignedAuditHeadSchema, { statement, signature, publicKey: key.publicKeyDer })
}

export type SignedHeadVerdict =
  | { readonly kind: 'verified'; readonly heads: readonly ChainHead[] }
  | { readonly kind: 'refused'; readonly reason: string }

/** Whether this very machine answered this very question. */
export function verifyHead(
  { statement: bytes, signature, publicKey }: SignedAuditHead,
  expected: { readonly machine: string; readonly nonce: string },
): SignedHeadVerdict {
  if (bytes.length > MAX_STATEMENT_BYTES || signature.length > MAX_SIGNATURE_BYTES) {
    return refused('is longer than any that can be')
  }
  const reading = readRsaPublicKey(publicKey)
  if (!reading.ok) return refused(reading.reason)
  if (keyId(publicKey) !== expected.machine) return refused('is signed by another machine’s key')
  if (!verify('sha256', Buffer.concat([PREFIX, bytes]), { key: reading.key, ...padding }, signature)) {
    return refused('its signature is not one of the machine’s key')
  }
  let statement: AuditHeadStatement
  try {
    statement = fromBinary(AuditHeadStatementSchema, bytes)
  } catch (error) {
    return refused(`cannot be read: ${reasonOf(error)}`)
  }
  if (statement.machine !== expected.machine) return refused('speaks of another machine')
  if (statement.nonce !== expected.nonce) return refused('answers another question')
  if (statement.heads.length > MAX_HEADS) return refused('holds more links than any that can be')
  return { kind: 'verified', heads: statement.heads.map(({ id, hash }) => ({ id: Number(id), hash })) }
}

function refused(reason: string): SignedHeadVerdict {
  return { kind: 'refused', reason }
}
