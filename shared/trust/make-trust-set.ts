import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { signEnvelope } from '../envelope/envelope.ts'
import type { SigningKeyPair, VerifyingKey } from '../envelope/keys.ts'
import { TRUST_SET_TYPE } from '../envelope/payload-types.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import { encodeTrustSet, type KnownTrust } from './trust-set.ts'
import { isSignedByOwnKeys, isSuccessor } from './walk-trust.ts'

/** A public key that goes into a trust set, and whose it is. */
export interface TrustedKey {
  readonly key: Pick<VerifyingKey, 'der'>
  readonly comment: string
}

/** What an operator decides about a trust set. */
export interface TrustContent {
  readonly keys: readonly TrustedKey[]
  readonly threshold: number
  readonly recoveryKeys: readonly TrustedKey[]
  readonly caPins: readonly string[]
  readonly coordinators: readonly string[]
}

export interface SignedTrust {
  readonly envelope: Envelope
  readonly trust: KnownTrust
}

/** Makes set number 1, signed by enough of its own keys. Throws, naming the field, when that cannot be. */
export function makeFirstTrustSet(
  input: TrustContent & {
    readonly fleetId: string
    readonly created: Date
    readonly signers: readonly SigningKeyPair[]
  },
): SignedTrust {
  const trust = encode(input, input.fleetId, 1, input.created)
  const envelope = signEnvelope(trust.payload, TRUST_SET_TYPE, input.signers)
  if (!isSignedByOwnKeys(envelope, trust)) {
    throw new Error(`trust set: ${trust.set.threshold} of its own keys must sign the first set`)
  }
  return { envelope, trust }
}

/**
 * Makes the set after `current`; what `change` leaves out stays. Throws when the signers are not enough for the machines
 * that know `current`: they would refuse it.
 */
export function makeNextTrustSet(input: {
  readonly current: KnownTrust
  readonly change: Partial<TrustContent>
  readonly created: Date
  readonly signers: readonly SigningKeyPair[]
}): SignedTrust {
  const { current } = input
  const content: TrustContent = {
    keys: withComments(current.set.keys),
    threshold: current.set.threshold,
    recoveryKeys: withComments(current.set.recoveryKeys),
    caPins: current.set.caPins,
    coordinators: current.set.coordinators,
    ...input.change,
  }
  const trust = encode(content, current.set.fleetId, current.number + 1, input.created)
  const envelope = signEnvelope(trust.payload, TRUST_SET_TYPE, input.signers)
  if (!isSuccessor(current, envelope)) {
    throw new Error(
      `trust set: ${current.set.threshold} of the keys of set ${current.number}, or one of its recovery keys, must sign the next`,
    )
  }
  return { envelope, trust }
}

function withComments(
  keys: readonly { readonly publicKey: Uint8Array; readonly comment: string }[],
): TrustedKey[] {
  return keys.map(({ publicKey, comment }) => ({ key: { der: publicKey }, comment }))
}

function encode(content: TrustContent, fleetId: string, number: number, created: Date): KnownTrust {
  return encodeTrustSet({
    fleetId,
    number: BigInt(number),
    keys: content.keys.map(({ key, comment }) => ({ publicKey: key.der, comment })),
    threshold: content.threshold,
    recoveryKeys: content.recoveryKeys.map(({ key, comment }) => ({ publicKey: key.der, comment })),
    caPins: [...content.caPins],
    coordinators: [...content.coordinators],
    created: timestampFromDate(created),
  })
}
