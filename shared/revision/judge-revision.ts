import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import type { Target } from '../gen/muster/v1/manifest_pb.ts'
import { isDigest } from '../ids.ts'
import type { KnownTrust } from '../trust/trust-set.ts'
import type { Hardware } from './expand-name.ts'
import { hasForeignSystem, whyNoSystem } from './foreign-system.ts'
import { judgeBinding, type RuleVerdict } from './judge-binding.ts'
import type { KnownManifest } from './read-manifest.ts'
import { findTarget, type HostAssignment, type Refused, refuse, verifyManifest } from './verify-revision.ts'

export const MAX_SKEW_MS = 5 * 60_000

/** What a node remembers of the revisions it accepted. A fresh machine gets `freshMemory` when it enrols. */
export interface KnownMemory {
  readonly kind: 'known'
  /** Number of the highest revision ever accepted; 0: none yet. */
  readonly highest: number
  /** Digest of that revision's manifest; empty while there is none. */
  readonly highestDigest: string
  /** Revisions below it are refused. */
  readonly floor: number
  /** The host this node last acted as. */
  readonly host?: string | undefined
}

export type RevisionMemory =
  | KnownMemory
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreadable'; readonly reason: string }

export const freshMemory: KnownMemory = { kind: 'known', highest: 0, highestDigest: '', floor: 0 }

export interface RevisionInput {
  readonly envelope: Envelope | undefined
  /** A serialised Target. */
  readonly targetBytes: Uint8Array
  readonly trust: KnownTrust
  readonly now: Date
  /** How far this clock is from the coordinator's, where that was measured. */
  readonly clockSkewMs?: number | undefined
  readonly memory: RevisionMemory
  readonly order: { readonly revision: number; readonly manifestDigest: string }
  readonly hardware: Hardware
  readonly assignment: HostAssignment
  /** Needed for a group's target only; `verifyManifest` and `findTarget` tell the rule beforehand. */
  readonly ruleVerdict?: RuleVerdict | undefined
  /** Of this machine, such as "x86_64-linux". */
  readonly system: string
  /** What is to be installed: the system, or Kubernetes alone where it lives apart. */
  readonly part: 'system' | 'kubernetes'
}

export interface AcceptedRevision {
  readonly kind: 'accepted'
  readonly manifest: KnownManifest
  readonly target: Target
  readonly host: string
  /** No hardware in the signed target ties the host to this machine. */
  readonly loose: boolean
  readonly signers: readonly string[]
  /** To be on disk before anything is acted on. */
  readonly newMemory: KnownMemory
  /** The trust set from here on; to be on disk as well when `trustChanged`. */
  readonly trust: KnownTrust
  readonly trustChanged: boolean
}

/** Whether this machine may install what it was ordered to, and as which host. Whatever is not known is a refusal. */
export function judgeRevision(input: RevisionInput): AcceptedRevision | Refused {
  const verified = verifyManifest(input.envelope, input.trust)
  if (verified.kind === 'refused') return withCure(verified)
  const { manifest } = verified
  const place = `revision ${manifest.number}`

  const early = judgeTime(manifest, input.now, input.clockSkewMs)
  if (early) return early
  const { memory } = input
  const step = judgeNumber(manifest, memory)
  if (step.kind === 'refused') return step
  if (input.order.revision !== manifest.number || input.order.manifestDigest !== manifest.digest) {
    return refuse('order-mismatch', `${place}: the order names another revision or another digest`)
  }

  const { assignment, hardware, ruleVerdict } = input
  const found = findTarget(manifest, input.targetBytes, assignment)
  if (found.kind === 'refused') return found
  const { target } = found
  if (target.system !== input.system) {
    return refuse(
      'system',
      `${place}: made for ${target.system}, this machine is ${input.system || 'of an unknown kind'}`,
    )
  }
  if (input.part === 'system' && hasForeignSystem(target)) {
    const reason = whyNoSystem(assignment.host, target.kubernetes ? target.cluster : '')
    return refuse('system', `${place}: ${reason}`)
  }
  if (input.part === 'kubernetes' && !target.kubernetes?.apart) {
    const cure = target.kubernetes
      ? 'its Kubernetes comes with the system: apply the revision'
      : 'it belongs to no cluster'
    return refuse('system', `${place}: has no Kubernetes of its own for ${assignment.host}; ${cure}`)
  }
  const lastHost = step.memory.host
  const bound = judgeBinding({ target, hardware, assignment, ruleVerdict, lastHost })
  if (bound.kind === 'refused') return bound
  const clash = target.group === '' ? undefined : judgeGroupName(manifest, bound.host, lastHost)
  if (clash) return clash
  return {
    kind: 'accepted',
    manifest,
    target,
    host: bound.host,
    loose: bound.loose,
    signers: verified.signers,
    newMemory: { ...step.memory, host: bound.host },
    trust: verified.trust,
    trustChanged: verified.trustChanged,
  }
}

/** Hosts that the revision lists are theirs alone: neither their names nor their machines are a group's. */
function judgeGroupName(
  { number, hosts }: KnownManifest,
  host: string,
  lastHost: string | undefined,
): Refused | undefined {
  const place = `revision ${number}`
  if (hosts.has(host)) {
    return refuse('target-mismatch', `${place}: ${host} is a host of its own, the template may not name it`)
  }
  // A part of it was replaced, or the coordinator lies.
  if (lastHost !== undefined && lastHost !== host && hosts.has(lastHost)) {
    return refuse(
      'host-changed',
      `${place}: this node acts as ${lastHost}, which is listed as a host: no rule makes it ${host}`,
    )
  }
  return undefined
}

/** Mostly the keys were replaced since it was signed: nobody altered anything, and there is a way out. */
function withCure({ class: kind, reason }: Refused): Refused {
  if (kind !== 'signature') return refuse(kind, reason)
  return refuse(
    kind,
    `${reason}; were the keys replaced since it was signed, \`muster publish --renew\` signs it anew`,
  )
}

function judgeTime(manifest: KnownManifest, now: Date, clockSkewMs: number | undefined): Refused | undefined {
  const nowMs = now.getTime()
  if (!Number.isFinite(nowMs)) return refuse('clock', 'clock: this machine does not know the time')
  if (clockSkewMs !== undefined && !(Math.abs(clockSkewMs) <= MAX_SKEW_MS)) {
    return refuse('clock', `clock: more than ${MAX_SKEW_MS / 60_000} minutes from the coordinator's`)
  }
  if (manifest.created.getTime() > nowMs + MAX_SKEW_MS) {
    return refuse(
      'future',
      `revision ${manifest.number}: made at ${manifest.created.toISOString()}, which is in the future`,
    )
  }
  if (manifest.expires.getTime() <= nowMs) {
    return refuse(
      'expired',
      `revision ${manifest.number}: expired at ${manifest.expires.toISOString()}; \`muster publish --renew\` signs it anew`,
    )
  }
  return undefined
}

/**
 * INVARIANT: the highest number and the floor of the memory that comes back are never below those of the memory that
 * went in. With H the highest, M is taken when M > H, or M = H with the same digest, or floor <= M < H.
 */
function judgeNumber(
  { number, digest, floor }: KnownManifest,
  memory: RevisionMemory,
): { readonly kind: 'ok'; readonly memory: KnownMemory } | Refused {
  if (memory.kind === 'missing') {
    return refuse(
      'missing-state',
      'memory: the record of accepted revisions is missing on a machine that had one',
    )
  }
  if (memory.kind === 'unreadable') return refuse('missing-state', `memory: not readable: ${memory.reason}`)
  if (!isSane(memory))
    return refuse('missing-state', 'memory: the record of accepted revisions contradicts itself')
  if (number < memory.floor) {
    return refuse(
      'rollback',
      `revision ${number}: below ${memory.floor}, the floor of revision ${memory.highest}`,
    )
  }
  if (number < memory.highest) return { kind: 'ok', memory }
  if (number === memory.highest && digest !== memory.highestDigest) {
    return refuse('rollback', `revision ${number}: another one was accepted here under this number`)
  }
  return {
    kind: 'ok',
    memory: { ...memory, highest: number, highestDigest: digest, floor: Math.max(memory.floor, floor) },
  }
}

function isSane({ highest, highestDigest, floor }: KnownMemory): boolean {
  return (
    Number.isSafeInteger(highest) &&
    Number.isSafeInteger(floor) &&
    floor >= 0 &&
    floor <= highest &&
    (highest === 0 ? highestDigest === '' : isDigest(highestDigest))
  )
}
