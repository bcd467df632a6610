import { verifyEnvelope } from '../envelope/envelope.ts'
import { TRUST_SET_TYPE } from '../envelope/payload-types.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import { isDigest } from '../ids.ts'
import { type KnownTrust, readTrustSet } from './trust-set.ts'

const MAX_TRUST_CHAIN = 1024

/** What a machine knows before it looks at what is offered. */
export type TrustStart =
  | { readonly kind: 'current'; readonly trust: KnownTrust }
  | { readonly kind: 'pin'; readonly pin: string }
  /** No pin was given: the first set offered is believed once, and the machine says so until an operator confirms. */
  | { readonly kind: 'first-use' }

export type TrustRefusal =
  | 'malformed'
  | 'signature'
  | 'fleet'
  | 'rollback'
  | 'fork'
  | 'gap'
  | 'pin'
  | 'missing'

export type TrustWalk =
  | {
      readonly kind: 'ok'
      readonly trust: KnownTrust
      /** The result differs from what was known before. */
      readonly changed: boolean
      /** Believed without a pin. */
      readonly firstUse: boolean
    }
  | { readonly kind: 'refused'; readonly class: TrustRefusal; readonly reason: string }

/**
 * Walks from what is known to the newest trust set of a chain. Each step must be the next number of the same fleet and
 * be signed by the keys of the step before. All of the chain is believed or none of it; nothing leads back.
 */
export function walkTrust(start: TrustStart, chain: readonly Envelope[]): TrustWalk {
  if (chain.length > MAX_TRUST_CHAIN) {
    return refused('malformed', `trust chain: ${chain.length} sets, at most ${MAX_TRUST_CHAIN} are allowed`)
  }
  const steps: { readonly envelope: Envelope; readonly trust: KnownTrust }[] = []
  for (const [index, envelope] of chain.entries()) {
    const read = readTrustSet(envelope.payload)
    if (read.kind === 'refused') return refused('malformed', `trust chain[${index}]: ${read.reason}`)
    const before = steps.at(-1)
    if (before && read.trust.number !== before.trust.number + 1) {
      return refused('gap', `trust chain[${index}]: number ${read.trust.number} after ${before.trust.number}`)
    }
    steps.push({ envelope, trust: read.trust })
  }
  const base = findBase(start, steps)
  if (base.kind === 'refused') return base
  let { trust } = base
  for (const { envelope } of steps.slice(base.next)) {
    const step = stepTrust(trust, envelope)
    if (step.kind === 'refused') return step
    trust = step.trust
  }
  const changed = start.kind !== 'current' || trust.number !== start.trust.number
  return { kind: 'ok', trust, changed, firstUse: start.kind === 'first-use' }
}

/** Whether machines that know `current` would take this set as the next one. */
export function isSuccessor(current: KnownTrust, envelope: Envelope): boolean {
  return stepTrust(current, envelope).kind === 'ok'
}

/** Whether enough of the set's own keys signed it. */
export function isSignedByOwnKeys(envelope: Envelope, trust: KnownTrust): boolean {
  return verifyEnvelope(envelope, TRUST_SET_TYPE, trust.keys, trust.set.threshold).kind === 'verified'
}

type Step = { readonly envelope: Envelope; readonly trust: KnownTrust }
type Base = { readonly kind: 'ok'; readonly trust: KnownTrust; readonly next: number } | Refused
type Refused = Extract<TrustWalk, { kind: 'refused' }>

function findBase(start: TrustStart, steps: readonly Step[]): Base {
  if (start.kind === 'current') return findCurrent(start.trust, steps)
  const [first] = steps
  if (!first) return refused('missing', 'trust chain: empty, and nothing is known yet')
  if (start.kind === 'pin') {
    if (!isDigest(start.pin)) return refused('pin', 'trust pin: must be 64 lower-case hex characters')
    const index = steps.findIndex(step => step.trust.digest === start.pin)
    const found = steps[index]
    if (!found) return refused('pin', 'trust chain: no set in it has the digest of the trust pin')
    // The pin is the digest of these very bytes; who signed them adds nothing.
    return { kind: 'ok', trust: found.trust, next: index + 1 }
  }
  if (!isSignedByOwnKeys(first.envelope, first.trust)) {
    return refused('signature', 'trust chain[0]: not signed by enough of its own keys')
  }
  return { kind: 'ok', trust: first.trust, next: 1 }
}

function findCurrent(current: KnownTrust, steps: readonly Step[]): Base {
  const same = steps.find(step => step.trust.number === current.number)
  if (same && same.trust.digest !== current.digest) {
    return refused('fork', `trust set ${current.number}: another one is known here under this number`)
  }
  const stranger = steps.find(step => step.trust.set.fleetId !== current.set.fleetId)
  if (stranger) return refused('fleet', `trust set ${stranger.trust.number}: belongs to another fleet`)
  const above = steps.findIndex(step => step.trust.number > current.number)
  return { kind: 'ok', trust: current, next: above === -1 ? steps.length : above }
}

function stepTrust(
  current: KnownTrust,
  envelope: Envelope,
): { readonly kind: 'ok'; readonly trust: KnownTrust } | Refused {
  const byKeys = verifyEnvelope(envelope, TRUST_SET_TYPE, current.keys, current.set.threshold)
  const byRecovery = verifyEnvelope(envelope, TRUST_SET_TYPE, current.recoveryKeys, 1)
  const verified = byKeys.kind === 'verified' ? byKeys : byRecovery
  if (verified.kind === 'refused') {
    return refused(
      'signature',
      `trust set after ${current.number}: needs ${current.set.threshold} of the keys of set ${current.number} or one of its recovery keys`,
    )
  }
  const read = readTrustSet(verified.payload)
  if (read.kind === 'refused') return refused('malformed', read.reason)
  if (read.trust.set.fleetId !== current.set.fleetId) {
    return refused('fleet', `trust set ${read.trust.number}: belongs to another fleet`)
  }
  if (read.trust.number <= current.number) {
    return refused('rollback', `trust set ${read.trust.number}: set ${current.number} is already known`)
  }
  if (read.trust.number !== current.number + 1) {
    return refused('gap', `trust set ${read.trust.number}: ${current.number + 1} must come first`)
  }
  return { kind: 'ok', trust: read.trust }
}

function refused(kind: TrustRefusal, reason: string): Refused {
  return { kind: 'refused', class: kind, reason }
}
