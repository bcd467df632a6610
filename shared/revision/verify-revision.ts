import { verifyEnvelope } from '../envelope/envelope.ts'
import { MANIFEST_TYPE } from '../envelope/payload-types.ts'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import type { Target } from '../gen/muster/v1/manifest_pb.ts'
import type { KnownTrust } from '../trust/trust-set.ts'
import { walkTrust } from '../trust/walk-trust.ts'
import { contradiction } from './clusters.ts'
import { type KnownManifest, readManifest } from './read-manifest.ts'
import { readTarget, targetDigest } from './read-target.ts'

export type RevisionRefusal =
  | 'signature'
  | 'malformed'
  | 'fleet'
  | 'expired'
  | 'future'
  | 'wrong-machine'
  | 'unreadable-fact'
  | 'rollback'
  | 'missing-state'
  | 'order-mismatch'
  | 'target-mismatch'
  | 'system'
  | 'host-changed'
  | 'clock'

export interface Refused {
  readonly kind: 'refused'
  readonly class: RevisionRefusal
  readonly reason: string
}

/** Which host or group a machine is, as the coordinator has it bound: a claim that the signed target must bear out. */
export interface HostAssignment {
  readonly host: string
  /** Empty when the host stands in the fleet file itself. */
  readonly group: string
}

/** A manifest whose signatures, fleet and form are good; says nothing yet about time, order or machine. */
export type VerifiedManifest =
  | {
      readonly kind: 'verified'
      readonly manifest: KnownManifest
      readonly signers: readonly string[]
      /** The trust set after taking in the one that travels in the manifest. */
      readonly trust: KnownTrust
      readonly trustChanged: boolean
    }
  | Refused

/** Verifies an envelope and reads the manifest from the verified bytes alone. */
export function verifyManifest(envelope: Envelope | undefined, trust: KnownTrust): VerifiedManifest {
  const verified = verifyEnvelope(envelope, MANIFEST_TYPE, trust.keys, trust.set.threshold)
  if (verified.kind === 'refused') return refuse('signature', verified.reason)
  const read = readManifest(verified.payload)
  if (read.kind === 'refused') return refuse('malformed', read.reason)
  const { manifest, number } = read.manifest
  if (manifest.fleetId !== trust.set.fleetId)
    return refuse('fleet', `revision ${number}: belongs to another fleet`)
  const walk = walkTrust({ kind: 'current', trust }, manifest.trustSet ? [manifest.trustSet] : [])
  if (walk.kind === 'refused') {
    return refuse(walk.class === 'fleet' ? 'fleet' : 'signature', `revision ${number}: ${walk.reason}`)
  }
  return {
    kind: 'verified',
    manifest: read.manifest,
    signers: verified.signers,
    trust: walk.trust,
    trustChanged: walk.changed,
  }
}

export type FoundTarget = { readonly kind: 'found'; readonly target: Target } | Refused

/** Reads a target, once its digest was found in the manifest under the host or group that the machine is. */
export function findTarget(
  { manifest, number, hosts, groups, clusters }: KnownManifest,
  bytes: Uint8Array,
  { host, group }: HostAssignment,
): FoundTarget {
  if (host === '') return refuse('target-mismatch', 'assignment: this machine is bound to no host')
  const what = group === '' ? `host ${host}` : `group ${group}`
  const named = group === '' ? hosts.get(host) : groups.get(group)
  if (named === undefined) return refuse('target-mismatch', `revision ${number}: has no target for ${what}`)
  if (targetDigest(bytes) !== named) {
    return refuse('target-mismatch', `target: is not the one revision ${number} names for ${what}`)
  }
  const read = readTarget(bytes)
  if (read.kind === 'refused') return refuse('malformed', read.reason)
  const { target } = read
  if (target.fleetId !== manifest.fleetId)
    return refuse('fleet', `target of ${what}: belongs to another fleet`)
  const agrees = group === '' ? target.host === host : target.group === group
  if (!agrees)
    return refuse('target-mismatch', `target of ${what}: is made for ${target.host || target.group}`)
  const contrary = contradiction(clusters, target)
  return contrary ? refuse('target-mismatch', `target of ${contrary}`) : { kind: 'found', target }
}

export function refuse(kind: RevisionRefusal, reason: string): Refused {
  return { kind: 'refused', class: kind, reason }
}
