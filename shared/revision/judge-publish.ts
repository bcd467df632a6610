import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import { type KnownTrust, readTrustSet } from '../trust/trust-set.ts'
import { contradiction } from './clusters.ts'
import { MAX_SKEW_MS } from './judge-revision.ts'
import type { KnownManifest } from './read-manifest.ts'
import { type EncodedTarget, readTarget, targetDigest } from './read-target.ts'
import { sameContent, saysNothingNew } from './same-content.ts'
import { verifyManifest } from './verify-revision.ts'

export type PublishRefusal =
  | 'signature'
  | 'malformed'
  | 'fleet'
  | 'expired'
  | 'future'
  | 'conflict'
  | 'number'
  | 'floor'
  | 'targets'
  | 'renew'
  | 'trust'

export interface PublishInput {
  /** The newest revision of the store; undefined when there is none. */
  readonly newest: KnownManifest | undefined
  readonly envelope: Envelope | undefined
  /** Serialised Targets. */
  readonly targets: readonly Uint8Array[]
  readonly trust: KnownTrust
  /** Digest of the manifest the publisher started from; empty: none. */
  readonly expectedPredecessor: string
  /** The publisher means to sign the newest tree and targets anew. */
  readonly renew: boolean
  readonly now: Date
}

export type PublishVerdict =
  | {
      readonly kind: 'accepted'
      readonly manifest: KnownManifest
      readonly targets: readonly EncodedTarget[]
      readonly signers: readonly string[]
      readonly trust: KnownTrust
      /** A new trust set came with the manifest. */
      readonly trustChanged: boolean
    }
  /** The newest revision already asks for exactly this; nothing is to be stored. */
  | { readonly kind: 'unchanged'; readonly manifest: KnownManifest }
  | { readonly kind: 'refused'; readonly class: PublishRefusal; readonly reason: string }

type Refused = Extract<PublishVerdict, { kind: 'refused' }>

/**
 * Whether a coordinator takes a revision. Publishing is compare-and-swap on the predecessor: of two operators who
 * started from the same revision one wins, and the other is told.
 */
export function judgePublish(input: PublishInput): PublishVerdict {
  const { newest, trust } = input
  const verified = verifyManifest(input.envelope, trust)
  if (verified.kind === 'refused') {
    const { class: kind, reason } = verified
    return refuse(kind === 'signature' || kind === 'fleet' ? kind : 'malformed', reason)
  }
  const { manifest } = verified
  // The same revision once more is a publisher who did not hear the first answer.
  if (newest?.digest === manifest.digest) return { kind: 'unchanged', manifest: newest }
  const problem = judgeSuccession(input, manifest) ?? judgeTime(manifest, input.now)
  if (problem) return problem
  if (input.renew && !(newest && sameContent(newest, manifest))) {
    return refuse('renew', `revision ${manifest.number}: differs from the newest, so it does not renew it`)
  }
  const targets = judgeTargets(manifest, input.targets)
  if (targets.kind === 'refused') return targets
  if (newest && !input.renew && saysNothingNew(newest, manifest)) {
    return { kind: 'unchanged', manifest: newest }
  }
  return {
    kind: 'accepted',
    manifest,
    targets: targets.targets,
    signers: verified.signers,
    trust: verified.trust,
    trustChanged: verified.trustChanged,
  }
}

function judgeSuccession(
  { newest, trust, expectedPredecessor }: PublishInput,
  manifest: KnownManifest,
): Refused | undefined {
  const place = `revision ${manifest.number}`
  const { predecessor } = manifest.manifest
  if (predecessor !== expectedPredecessor) {
    return refuse('malformed', `${place}: its predecessor is not the one that is expected`)
  }
  // An empty store takes any number: a coordinator that lost its store must be able to go on where the machines are,
  // and what they accept is theirs to judge.
  if (newest) {
    if (predecessor !== newest.digest) {
      return refuse(
        'conflict',
        `${place}: revision ${newest.number} was published meanwhile; look at it with \`muster diff\` and publish again`,
      )
    }
    if (manifest.number !== newest.number + 1) {
      return refuse('number', `${place}: must be ${newest.number + 1}, one more than the newest`)
    }
    if (manifest.floor < newest.floor) {
      return refuse(
        'floor',
        `${place}: floor ${manifest.floor} is below ${newest.floor}, and a floor never falls`,
      )
    }
  }
  const carried = checkCarriedTrust(trust, manifest)
  return carried ? refuse('trust', `${place}: ${carried}`) : undefined
}

/** A revision that carries an older trust set than the fleet's would leave machines that lag behind where they are. */
function checkCarriedTrust(trust: KnownTrust, { manifest }: KnownManifest): string | undefined {
  const read = manifest.trustSet && readTrustSet(manifest.trustSet.payload)
  if (read?.kind !== 'ok') return 'its trust set is not readable'
  return read.trust.number < trust.number
    ? `carries trust set ${read.trust.number}, the fleet's is ${trust.number}; fetch it with \`muster trust show\``
    : undefined
}

function judgeTime(manifest: KnownManifest, now: Date): Refused | undefined {
  if (manifest.created.getTime() > now.getTime() + MAX_SKEW_MS) {
    return refuse(
      'future',
      `revision ${manifest.number}: made at ${manifest.created.toISOString()}, in the future`,
    )
  }
  return manifest.expires > now
    ? undefined
    : refuse('expired', `revision ${manifest.number}: expired at ${manifest.expires.toISOString()}`)
}

type JudgedTargets = { readonly kind: 'ok'; readonly targets: EncodedTarget[] } | Refused

function judgeTargets(
  { manifest, number, hosts, groups, clusters }: KnownManifest,
  given: readonly Uint8Array[],
): JudgedTargets {
  const place = `revision ${number}`
  if (given.length !== hosts.size + groups.size) {
    return refuse('targets', `${place}: names ${hosts.size + groups.size} targets, ${given.length} were sent`)
  }
  const targets: EncodedTarget[] = []
  const seen = new Set<string>()
  for (const bytes of given) {
    const read = readTarget(bytes)
    if (read.kind === 'refused') return refuse('malformed', `${place}: ${read.reason}`)
    const { target } = read
    const digest = targetDigest(bytes)
    const named = target.group === '' ? hosts.get(target.host) : groups.get(target.group)
    if (named !== digest) {
      return refuse(
        'targets',
        `${place}: the manifest does not name the target of ${target.host || target.group}`,
      )
    }
    if (seen.has(digest))
      return refuse('targets', `${place}: the target of ${target.host || target.group} came twice`)
    if (target.fleetId !== manifest.fleetId) {
      return refuse(
        'fleet',
        `${place}: the target of ${target.host || target.group} belongs to another fleet`,
      )
    }
    const contrary = contradiction(clusters, target)
    if (contrary) return refuse('targets', `${place}: ${contrary}`)
    seen.add(digest)
    targets.push({ target, bytes, digest })
  }
  return { kind: 'ok', targets }
}

function refuse(kind: PublishRefusal, reason: string): Refused {
  return { kind: 'refused', class: kind, reason }
}
