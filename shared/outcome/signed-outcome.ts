import { constants, createPrivateKey, type KeyObject, sign, verify } from 'node:crypto'
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { reasonOf } from '../errors.ts'
import {
  type OutcomeStatement,
  OutcomeStatementSchema,
  type SignedOutcome,
  SignedOutcomeSchema,
} from '../gen/muster/v1/operation_pb.ts'
import { keyId } from '../x509/key-id.ts'
import { readRsaPublicKey } from '../x509/public-key.ts'

/** Bytes of a statement: its texts are bounded by those who write and those who take it. */
export const MAX_STATEMENT_BYTES = 64 * 1024
const MAX_SIGNATURE_BYTES = 512
/** Stands before what is signed, so that the signature can never be taken for one over anything else. */
const PREFIX = Buffer.from('muster outcome v1\n')
const padding = { padding: constants.RSA_PKCS1_PADDING }

/** Signs what a node says for good of an operation, with RSASSA-PKCS1-v1_5 and SHA-256. */
export function signOutcome(
  privateKey: KeyObject | string,
  statement: MessageInitShape<typeof OutcomeStatementSchema>,
): SignedOutcome {
  const bytes = toBinary(OutcomeStatementSchema, create(OutcomeStatementSchema, statement))
  if (bytes.length > MAX_STATEMENT_BYTES) {
    throw new RangeError(`statement takes ${bytes.length} bytes, at most ${MAX_STATEMENT_BYTES} are allowed`)
  }
  const key = typeof privateKey === 'string' ? createPrivateKey(privateKey) : privateKey
  const signature = sign('sha256', Buffer.concat([PREFIX, bytes]), { key, ...padding })
  return create(SignedOutcomeSchema, { statement: bytes, signature })
}

export type OutcomeVerdict =
  /** `statement` is what the machine whose key it is said: decode nothing else of the message. */
  | { readonly kind: 'verified'; readonly statement: OutcomeStatement }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Whether the holder of a machine's key said this. The statement must name the machine that this very key makes: the
 * SHA-256 of its SubjectPublicKeyInfo (DER).
 */
export function verifyOutcome(
  publicKeyDer: Uint8Array,
  { statement: bytes, signature }: Pick<SignedOutcome, 'statement' | 'signature'>,
): OutcomeVerdict {
  if (bytes.length > MAX_STATEMENT_BYTES) {
    return refused(`statement takes ${bytes.length} bytes, at most ${MAX_STATEMENT_BYTES} are read`)
  }
  if (signature.length > MAX_SIGNATURE_BYTES) return refused('signature is longer than any that can be')
  const reading = readRsaPublicKey(publicKeyDer)
  if (!reading.ok) return refused(reading.reason)
  const message = Buffer.concat([PREFIX, bytes])
  if (!verify('sha256', message, { key: reading.key, ...padding }, signature)) {
    return refused('the signature is not one of the machine’s key over this statement')
  }
  const machine = keyId(publicKeyDer)
  let statement: OutcomeStatement
  try {
    statement = fromBinary(OutcomeStatementSchema, bytes)
  } catch (error) {
    return refused(`statement cannot be read: ${reasonOf(error)}`)
  }
  if (statement.machine !== machine) {
    return refused(`statement speaks of machine ${statement.machine.slice(0, 64)}, the key makes ${machine}`)
  }
  if (statement.operationId === '') return refused('statement names no operation')
  if (!statement.outcome) return refused('statement has no outcome')
  return { kind: 'verified', statement }
}

function refused(reason: string): OutcomeVerdict {
  return { kind: 'refused', reason }
}
