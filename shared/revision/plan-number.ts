import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import type { KnownTrust } from '../trust/trust-set.ts'
import type { KnownManifest } from './read-manifest.ts'
import { verifyManifest } from './verify-revision.ts'

/** What an operator's own machine remembers of the newest revision it published or saw. */
export interface SeenRevision {
  readonly number: number
  readonly digest: string
}

export interface NumberInput {
  /** What the coordinator says is the newest; undefined when it says there is none. */
  readonly newest: Envelope | undefined
  readonly trust: KnownTrust
  readonly seen: SeenRevision | undefined
}

export type NumberPlan =
  | {
      readonly kind: 'ok'
      readonly number: number
      readonly predecessor: string
      /** The least floor the next revision may have. */
      readonly floor: number
      readonly newest: KnownManifest | undefined
    }
  | { readonly kind: 'refused'; readonly class: 'signature' | 'went-back' | 'fork'; readonly reason: string }

/**
 * The number an operator signs next. It comes from a revision that this fleet's own keys signed, never from what a
 * coordinator claims: one that may choose the number could make every later revision look old. A revision that has
 * expired counts as well, since its successor is how it is replaced.
 */
export function planNumber({ newest, trust, seen }: NumberInput): NumberPlan {
  if (!newest) {
    return seen
      ? refused(
          'went-back',
          `the coordinator knows no revision, but ${seen.number} was seen from here; restore its store`,
        )
      : { kind: 'ok', number: 1, predecessor: '', floor: 1, newest: undefined }
  }
  const verified = verifyManifest(newest, trust)
  if (verified.kind === 'refused') {
    return refused('signature', `the coordinator's newest revision is not good: ${verified.reason}`)
  }
  const { manifest } = verified
  const { number, digest, floor } = manifest
  if (seen && number < seen.number) {
    return refused(
      'went-back',
      `the coordinator's newest revision is ${number}, but ${seen.number} was seen from here`,
    )
  }
  if (seen && number === seen.number && digest !== seen.digest) {
    return refused('fork', `the coordinator's revision ${number} is another one than was seen from here`)
  }
  return { kind: 'ok', number: number + 1, predecessor: digest, floor, newest: manifest }
}

function refused(kind: 'signature' | 'went-back' | 'fork', reason: string): NumberPlan {
  return { kind: 'refused', class: kind, reason }
}
