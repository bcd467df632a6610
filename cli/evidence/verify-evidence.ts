import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { Evidence, OutcomeEvidence } from '../../shared/gen/muster/v1/evidence_pb.ts'
import type { OutcomeStatement } from '../../shared/gen/muster/v1/operation_pb.ts'
import { verifyOutcome } from '../../shared/outcome/signed-outcome.ts'
import { readManifest } from '../../shared/revision/read-manifest.ts'
import { verifyManifest } from '../../shared/revision/verify-revision.ts'
import { type KnownTrust, readTrustSet } from '../../shared/trust/trust-set.ts'
import { walkTrust } from '../../shared/trust/walk-trust.ts'
import { keyId } from '../../shared/x509/key-id.ts'

/** What is trusted before the evidence is looked at. */
export type TrustRoot =
  /** SHA-256 (hex) of one trust set. */
  | { readonly kind: 'pin'; readonly pin: string }
  /** The sets that the operator has itself, oldest first. */
  | { readonly kind: 'known'; readonly chain: readonly Envelope[] }

export interface JudgedOutcome {
  readonly machine: string
  readonly host: string
  readonly operationId: string
  /** What the machine said; undefined: its signature is not good, so nothing is known. */
  readonly statement: OutcomeStatement | undefined
  /** Empty: all of it holds. */
  readonly fault: string
}

export interface JudgedEvidence {
  /** Faults of the trust sets and the revisions themselves. */
  readonly problems: readonly string[]
  /** Revisions whose signatures are good. */
  readonly revisions: number
  readonly outcomes: readonly JudgedOutcome[]
}

/**
 * Whether evidence holds, from a root that is known and nothing else: the trust sets follow from it, enough keys signed
 * each revision under the set of its time, each machine's id is the digest of its key, and each outcome was signed by
 * that key and names a revision that holds.
 */
export function verifyEvidence(evidence: Evidence, root: TrustRoot): JudgedEvidence {
  const trust = trustedSets(evidence.trust?.envelopes ?? [], root)
  if (typeof trust === 'string') return { problems: [trust], revisions: 0, outcomes: [] }
  const revisions = verifyRevisions(evidence, trust)
  const keys = new Map(evidence.machines.map(machine => [keyId(machine.publicKey), machine]))
  const fleetId = trust[0]?.set.fleetId ?? ''
  const outcomes = evidence.outcomes.map(outcome => {
    const machine = keys.get(outcome.machine)
    const judged = machine
      ? judgeOutcome(outcome, machine.publicKey, { fleetId, digests: revisions.digests })
      : { statement: undefined, fault: 'the evidence has no key that makes this machine’s id' }
    return {
      machine: outcome.machine,
      host: machine?.host ?? '',
      operationId: outcome.operationId,
      ...judged,
    }
  })
  return { problems: revisions.problems, revisions: revisions.digests.size, outcomes }
}

/** The trust sets that follow from the root, oldest first; a text is why there are none. */
function trustedSets(chain: readonly Envelope[], root: TrustRoot): readonly KnownTrust[] | string {
  const sets: KnownTrust[] = []
  if (root.kind === 'pin') {
    const found = setsIn(chain).find(({ digest }) => digest === root.pin)
    if (!found) return 'trust: no set in the evidence has the digest of the trust pin'
    sets.push(found)
  } else sets.push(...setsIn(root.chain))
  for (const envelope of chain) {
    const newest = sets.at(-1)
    if (!newest) return 'trust: nothing is known to begin with'
    const walk = walkTrust({ kind: 'current', trust: newest }, [envelope])
    if (walk.kind === 'refused') return `trust: ${walk.reason}`
    if (walk.changed) sets.push(walk.trust)
  }
  return sets
}

function setsIn(chain: readonly Envelope[]): KnownTrust[] {
  return chain.flatMap(({ payload }) => {
    const read = readTrustSet(payload)
    return read.kind === 'ok' ? [read.trust] : []
  })
}

/** Digests of the manifests that hold, by number. */
function verifyRevisions(
  { revisions }: Evidence,
  trust: readonly KnownTrust[],
): { readonly digests: ReadonlyMap<number, string>; readonly problems: readonly string[] } {
  const digests = new Map<number, string>()
  const problems: string[] = []
  let newestSet = 0
  for (const { number, envelope } of [...revisions].sort((a, b) => Number(a.number - b.number))) {
    const fault = (reason: string) => void problems.push(`revision ${number}: ${reason}`)
    const read = readManifest(envelope?.payload ?? new Uint8Array())
    if (read.kind === 'refused') {
      fault(read.reason)
      continue
    }
    const { manifest } = read
    if (BigInt(manifest.number) !== number) {
      fault(`its manifest is that of revision ${manifest.number}`)
      continue
    }
    if (digests.has(manifest.number)) {
      // Two of one number: neither says which one a machine meant by the number alone.
      if (digests.get(manifest.number) !== manifest.digest) fault('there are two of this number')
      continue
    }
    const signed = readTrustSet(manifest.manifest.trustSet?.payload ?? new Uint8Array())
    const named = signed.kind === 'ok' ? signed.trust.number : 0
    // The first revision that carries a set counts by the keys of the one before; after it only by its own.
    const isFirst = newestSet < named
    const candidates = trust.filter(set => set.number === named || (isFirst && set.number === named - 1))
    const verdicts = candidates.map(set => verifyManifest(envelope, set))
    if (named < newestSet) fault(`names trust set ${named}, an earlier revision named ${newestSet} already`)
    else if (verdicts.some(({ kind }) => kind === 'verified')) {
      digests.set(manifest.number, manifest.digest)
      newestSet = named
    } else {
      const [first] = verdicts
      fault(
        first?.kind === 'refused' ? first.reason : `trust set ${named} does not follow from what is trusted`,
      )
    }
  }
  return { digests, problems }
}

function judgeOutcome(
  { operationId, signed }: OutcomeEvidence,
  publicKey: Uint8Array,
  known: { readonly fleetId: string; readonly digests: ReadonlyMap<number, string> },
): { readonly statement: OutcomeStatement | undefined; readonly fault: string } {
  if (!signed) return { statement: undefined, fault: 'it is not signed' }
  const verdict = verifyOutcome(publicKey, signed)
  if (verdict.kind === 'refused') return { statement: undefined, fault: verdict.reason }
  const { statement } = verdict
  const fault = (text: string) => ({ statement, fault: text })
  if (statement.operationId !== operationId) {
    return fault(`the machine spoke of operation ${statement.operationId}`)
  }
  if (statement.fleetId !== known.fleetId) return fault('the machine spoke of another fleet')
  const { revision, manifestDigest } = statement
  if (revision === 0n) {
    return manifestDigest === '' ? fault('') : fault('it names a manifest and no revision')
  }
  const digest = known.digests.get(Number(revision))
  if (digest === undefined) return fault(`it names revision ${revision}, of which no signed manifest holds`)
  if (digest !== manifestDigest) return fault(`it names another manifest as revision ${revision}`)
  return fault('')
}
