import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { decodeEnvelope, encodeEnvelope } from '../../shared/envelope/decode-envelope.ts'
import { reasonOf } from '../../shared/errors.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { MAX_SKEW_MS } from '../../shared/revision/judge-revision.ts'
import type { KnownManifest } from '../../shared/revision/read-manifest.ts'
import { verifyManifest } from '../../shared/revision/verify-revision.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'

export interface ManifestDeps {
  readonly folder: string
  readonly trust: () => KnownTrust | undefined
  /** The highest revision that this node ever accepted, and its manifest's digest. */
  readonly accepted: () => { readonly highest: bigint; readonly highestDigest: string }
  readonly getRevision: (number: bigint, signal: AbortSignal) => Promise<{ envelope?: Envelope | undefined }>
  readonly clock: Clock
}

export type ManifestReading =
  | { readonly kind: 'known'; readonly manifest: KnownManifest }
  | { readonly kind: 'unknown'; readonly reason: string }

/** What stands against taking a manifest as the newest; undefined: nothing. */
export function judgeNewest(
  candidate: Pick<KnownManifest, 'number' | 'digest' | 'created'>,
  remembered: readonly { readonly number: number; readonly digest: string }[],
  nowMs: number,
): string | undefined {
  const { number, digest, created } = candidate
  for (const other of remembered) {
    if (number < other.number) return `revision ${number}: revision ${other.number} is known here`
    if (number === other.number && digest !== other.digest)
      return `revision ${number}: another one is known here under this number`
  }
  return created.getTime() > nowMs + MAX_SKEW_MS
    ? `revision ${number}: made at ${created.toISOString()}, which is in the future`
    : undefined
}

const FILE = 'manifest'

/**
 * The newest signed manifest that this node has seen: by it alone it judges who belongs to a cluster. INVARIANTS: what is
 * kept was verified against the trust set, and is verified again whenever that changes; it never goes back, neither behind
 * itself nor behind what was ever accepted here. That it has expired stops new installations, not this.
 */
export class ManifestKeeper {
  readonly #deps: ManifestDeps
  #envelope: Envelope | undefined
  #verified: { readonly manifest: KnownManifest; readonly by: string } | undefined
  #last: Promise<unknown> = Promise.resolve()

  private constructor(deps: ManifestDeps, envelope: Envelope | undefined) {
    this.#deps = deps
    this.#envelope = envelope
  }

  static async open(deps: ManifestDeps): Promise<ManifestKeeper> {
    const bytes = await readFileIfThere(join(deps.folder, FILE))
    // One that is damaged is as good as none: the next one is fetched, and none older than what was accepted is taken.
    return new ManifestKeeper(deps, bytes && decodeEnvelope(bytes))
  }

  /** What is known without asking anybody; undefined: nothing that counts now. */
  get held(): KnownManifest | undefined {
    const trust = this.#deps.trust()
    if (!trust || !this.#envelope) return undefined
    if (this.#verified?.by !== trust.digest) {
      const verified = verifyManifest(this.#envelope, trust)
      this.#verified =
        verified.kind === 'verified' ? { manifest: verified.manifest, by: trust.digest } : undefined
    }
    return this.#verified?.manifest
  }

  /** Takes an envelope that somebody sent. Answers why not; undefined: it is known now. Durable when it returns. */
  offer(envelope: Envelope | undefined): Promise<string | undefined> {
    const work = this.#last.then(async () => await this.#take(envelope))
    this.#last = work.catch(() => {}) // told to who offered it
    return work
  }

  async #take(envelope: Envelope | undefined): Promise<string | undefined> {
    const trust = this.#deps.trust()
    if (!trust || !envelope) return trust ? 'the envelope is missing' : 'this node has no trust set yet'
    const verified = verifyManifest(envelope, trust)
    if (verified.kind === 'refused') return `${verified.class}: ${verified.reason}`
    const { manifest } = verified
    const { held } = this
    const why = judgeNewest(
      manifest,
      [...(held ? [held] : []), ...this.#accepted()],
      this.#deps.clock.now().getTime(),
    )
    if (why !== undefined || held?.digest === manifest.digest) return why
    await writeFileDurably(join(this.#deps.folder, FILE), encodeEnvelope(envelope))
    this.#envelope = envelope
    this.#verified = { manifest, by: trust.digest }
    return undefined
  }

  #accepted(): readonly { readonly number: number; readonly digest: string }[] {
    const { highest, highestDigest } = this.#deps.accepted()
    return highest === 0n ? [] : [{ number: Number(highest), digest: highestDigest }]
  }

  /** The newest one; what was accepted here and is not at hand is fetched. */
  async newest(signal: AbortSignal): Promise<ManifestReading> {
    const [accepted] = this.#accepted()
    const { held } = this
    if (held && (!accepted || held.number >= accepted.number)) return { kind: 'known', manifest: held }
    if (!accepted) return unknown('no revision has reached this node yet')
    try {
      const { envelope } = await this.#deps.getRevision(BigInt(accepted.number), signal)
      const why = await this.offer(envelope)
      if (why !== undefined) return unknown(why)
    } catch (error) {
      return unknown(`revision ${accepted.number} could not be fetched: ${reasonOf(error)}`)
    }
    const now = this.held
    return now ? { kind: 'known', manifest: now } : unknown(`revision ${accepted.number} does not count here`)
  }

  /** A certain revision, not below what the newest one still allows; nothing is kept of an older one. */
  async find(number: bigint, digest: string, signal: AbortSignal): Promise<ManifestReading> {
    const newest = await this.newest(signal)
    if (newest.kind === 'known' && newest.manifest.digest === digest) return newest
    const trust = this.#deps.trust()
    if (!trust) return unknown('this node has no trust set yet')
    let envelope: Envelope | undefined
    try {
      ;({ envelope } = await this.#deps.getRevision(number, signal))
    } catch (error) {
      return unknown(`revision ${number} could not be fetched: ${reasonOf(error)}`)
    }
    const verified = verifyManifest(envelope, trust)
    if (verified.kind === 'refused') return unknown(`${verified.class}: ${verified.reason}`)
    const { manifest } = verified
    if (BigInt(manifest.number) !== number || manifest.digest !== digest)
      return unknown(`revision ${number}: the order names another one`)
    const held = this.held
    if (held && manifest.number < held.floor)
      return unknown(`revision ${number}: below ${held.floor}, the floor of revision ${held.number}`)
    if (!held || manifest.number > held.number) {
      const why = await this.offer(envelope)
      if (why !== undefined) return unknown(why)
    }
    return { kind: 'known', manifest }
  }
}

const unknown = (reason: string): ManifestReading => ({ kind: 'unknown', reason })
