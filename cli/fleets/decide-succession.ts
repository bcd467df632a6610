import type { KnownManifest } from '../../shared/revision/read-manifest.ts'

export interface SuccessionInput {
  /** What the coordinator shows as its newest, verified; undefined: it has none. */
  readonly newest: KnownManifest | undefined
  /** The newest that was seen from here. */
  readonly lastSeen: KnownManifest | undefined
  /** The operator knows that the coordinator lost revisions, and goes on from what it has. */
  readonly acceptOlder: boolean
}

export type Succession =
  | {
      readonly kind: 'next'
      readonly number: number
      /** Empty: this is the first. */
      readonly predecessor: string
      readonly floor: number
      readonly note: string | undefined
    }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Which revision comes next. It follows from what operators signed, never from a number that a coordinator names: one
 * that shows less than was seen before, or something else under the same number, is not followed unasked.
 */
export function decideSuccession({ newest, lastSeen, acceptOlder }: SuccessionInput): Succession {
  if (!newest) {
    if (!lastSeen) return { kind: 'next', number: 1, predecessor: '', floor: 1, note: undefined }
    return {
      ...after(lastSeen),
      note: `the coordinator has no revisions; going on after ${lastSeen.number}, the newest that was seen from here, since machines accept nothing older`,
    }
  }
  if (lastSeen && newest.number < lastSeen.number && !acceptOlder) {
    return {
      kind: 'refused',
      reason:
        `the coordinator's newest revision is ${newest.number}, but ${lastSeen.number} was seen from here. Was an old backup restored? ` +
        'Restore a newer one or import the missing revisions; --accept-older goes on from what it has, and machines may refuse that',
    }
  }
  if (lastSeen && newest.number === lastSeen.number && newest.digest !== lastSeen.digest && !acceptOlder) {
    return {
      kind: 'refused',
      reason:
        `the coordinator shows another revision ${newest.number} than was seen from here before. Two were signed under one number: ` +
        'find out who did; --accept-older goes on from what the coordinator has, and machines may refuse that',
    }
  }
  return { ...after(newest), note: undefined }
}

function after({ number, digest, floor }: KnownManifest) {
  return { kind: 'next', number: number + 1, predecessor: digest, floor } as const
}
