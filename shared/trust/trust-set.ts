import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { parseVerifyingKey, type VerifyingKey } from '../envelope/keys.ts'
import { type SigningKey, type TrustSet, TrustSetSchema } from '../gen/muster/v1/trust_pb.ts'
import { parseHostPort } from '../host-port.ts'
import { isDigest, sha256Hex } from '../ids.ts'
import { instantOf } from '../time.ts'

const MAX_KEYS = 16
const MAX_RECOVERY_KEYS = 4
const MAX_CA_PINS = 16
const MAX_COORDINATORS = 8
const MAX_TRUST_BYTES = 64 * 1024
const MAX_COMMENT_CHARS = 128

/** A trust set that was checked, beside what identifies it. */
export interface KnownTrust {
  readonly set: TrustSet
  readonly number: number
  /** SHA-256 (hex) of the payload: the trust pin. */
  readonly digest: string
  /** The bytes as they were signed; what is stored, and digested. */
  readonly payload: Uint8Array
  readonly keys: readonly VerifyingKey[]
  readonly recoveryKeys: readonly VerifyingKey[]
}

export type ReadTrust =
  | { readonly kind: 'ok'; readonly trust: KnownTrust }
  | { readonly kind: 'refused'; readonly reason: string }

/** Decodes and checks a trust set. Says nothing about whether anyone signed it. */
export function readTrustSet(payload: Uint8Array): ReadTrust {
  if (payload.length > MAX_TRUST_BYTES) {
    return refused(`trust set: ${payload.length} bytes, at most ${MAX_TRUST_BYTES} are allowed`)
  }
  let set: TrustSet
  try {
    set = fromBinary(TrustSetSchema, payload)
  } catch {
    return refused('trust set: not decodable')
  }
  if (!isFleetId(set.fleetId)) return refused('trust set fleet_id: must be 32 lower-case hex characters')
  if (set.number < 1n || set.number > BigInt(Number.MAX_SAFE_INTEGER)) {
    return refused('trust set number: must be at least 1')
  }
  const keys = readKeys('keys', set.keys, 1, MAX_KEYS)
  if (keys.kind === 'refused') return keys
  const recovery = readKeys('recovery_keys', set.recoveryKeys, 0, MAX_RECOVERY_KEYS)
  if (recovery.kind === 'refused') return recovery
  const signing = new Set(keys.keys.map(key => key.keyId))
  if (recovery.keys.some(key => signing.has(key.keyId))) {
    return refused('trust set recovery_keys: a recovery key may not also be a signing key')
  }
  if (set.threshold < 1 || set.threshold > keys.keys.length) {
    return refused(`trust set threshold: must be from 1 to ${keys.keys.length}, the number of keys`)
  }
  const problem = checkCaPins(set.caPins) ?? checkCoordinators(set.coordinators)
  if (problem) return refused(problem)
  if (!instantOf(set.created)) return refused('trust set created: missing or not a time')
  return {
    kind: 'ok',
    trust: {
      set,
      number: Number(set.number),
      digest: sha256Hex(payload),
      payload,
      keys: keys.keys,
      recoveryKeys: recovery.keys,
    },
  }
}

/** Serialises a trust set; throws with the field's name when it breaks a bound. */
export function encodeTrustSet(init: Parameters<typeof create<typeof TrustSetSchema>>[1]): KnownTrust {
  const read = readTrustSet(toBinary(TrustSetSchema, create(TrustSetSchema, init)))
  if (read.kind === 'refused') throw new Error(read.reason)
  return read.trust
}

export function isFleetId(text: string): boolean {
  return /^[0-9a-f]{32}$/.test(text)
}

type ReadKeys =
  | { readonly kind: 'ok'; readonly keys: VerifyingKey[] }
  | { readonly kind: 'refused'; readonly reason: string }

function readKeys(field: string, given: readonly SigningKey[], least: number, most: number): ReadKeys {
  if (given.length < least || given.length > most) {
    return refused(`trust set ${field}: ${given.length} keys, must be ${least} to ${most}`)
  }
  const keys: VerifyingKey[] = []
  for (const [index, { publicKey, comment }] of given.entries()) {
    const place = `trust set ${field}[${index}]`
    if (comment.length > MAX_COMMENT_CHARS) {
      return refused(`${place}: comment longer than ${MAX_COMMENT_CHARS} characters`)
    }
    const parsed = parseVerifyingKey(publicKey)
    if (parsed.kind === 'refused') return refused(`${place}: ${parsed.reason}`)
    if (keys.some(key => key.keyId === parsed.key.keyId)) return refused(`${place}: stands there twice`)
    keys.push(parsed.key)
  }
  return { kind: 'ok', keys }
}

function checkCaPins(pins: readonly string[]): string | undefined {
  if (pins.length > MAX_CA_PINS)
    return `trust set ca_pins: ${pins.length}, at most ${MAX_CA_PINS} are allowed`
  if (!pins.every(isDigest)) return 'trust set ca_pins: each must be 64 lower-case hex characters'
  return new Set(pins).size === pins.length ? undefined : 'trust set ca_pins: one stands there twice'
}

function checkCoordinators(addresses: readonly string[]): string | undefined {
  if (addresses.length > MAX_COORDINATORS) {
    return `trust set coordinators: ${addresses.length}, at most ${MAX_COORDINATORS} are allowed`
  }
  return addresses.every(address => parseHostPort(address) !== undefined)
    ? undefined
    : 'trust set coordinators: each must be host:port or [IPv6]:port'
}

function refused(reason: string): { readonly kind: 'refused'; readonly reason: string } {
  return { kind: 'refused', reason }
}
