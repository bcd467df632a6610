import type { Under, Which } from './token-pair.ts'

/** Another server of the cluster as the offer shows it. */
export interface OtherServer {
  readonly node: string
  /** Its key is in the offer, and is the one that the signed manifest names. */
  readonly shown: boolean
  /** The new token is in the offer, sealed to its key. */
  readonly sealed: boolean
  /** It says that it keeps the new token beside the old one. */
  readonly kept: boolean
  /** It says that the new one is what it starts with. */
  readonly taken: boolean
}

/** What the server that makes a new token sees at once. */
export interface RotationView {
  /** Kept here: "own" is of a rotation of this server. */
  readonly pair: 'none' | 'own' | 'other'
  /** With which this server starts. */
  readonly token: Which
  /** Without a pair "old" is the token that this server starts with. undefined: the datastore does not say. */
  readonly under: Under | undefined
  /**
   * "cancelled": ours, and given up; "live": of another server, which may still ask for its token. undefined: it cannot be read.
   */
  readonly offer: 'none' | 'ours' | 'cancelled' | 'live' | 'over' | undefined
  readonly others: readonly OtherServer[]
  /** There is time left in which the rotation may be asked for. */
  readonly mayAsk: boolean
  /** Nothing that this server asked for can still be under way. */
  readonly quiet: boolean
  /** The others have had their time to take the new token, or to see that it was given up. */
  readonly waited: boolean
}

export type RotationStep =
  /** Makes a token and keeps it beside the old one. */
  | 'choose'
  /** Another rotation is not over. */
  | 'busy'
  /** The datastore is under a token that nobody here knows. */
  | 'unknown-token'
  | 'offer'
  /** Seals the token to those who have shown their keys. */
  | 'seal'
  /** Has k3s put the datastore under the new token. */
  | 'ask'
  /** Starts with the new one from now on; or with the old one. */
  | 'take'
  | 'give-back'
  /** Takes away what the old token still opens. */
  | 'drop-old-key'
  /** Says in the offer that it was given up. */
  | 'cancel'
  /** Takes the offer out of the cluster. */
  | 'withdraw'
  | 'forget'
  | 'wait'

/**
 * What the server that makes a new token does next. INVARIANTS: it is asked for only while every other server says that it keeps both
 * tokens; a token is forgotten only while the datastore is under the other one and nothing can change that; the offer goes before
 * the pair, so that a rotation whose offer is there is known by who made it.
 */
export function nextRotationStep(view: RotationView): RotationStep {
  const { pair, token, under, offer, others, mayAsk, quiet, waited } = view
  if (pair === 'other') return 'busy'
  if (under === undefined) return 'wait'
  if (pair === 'none') {
    if (under !== 'old') return 'unknown-token'
    if (offer === undefined) return 'wait'
    if (offer === 'live') return 'busy'
    return offer === 'none' ? 'choose' : 'withdraw'
  }
  if (under === 'next' || under === 'both') {
    if (token === 'old') return 'take'
    if (under === 'both') return 'drop-old-key'
    if (offer === undefined) return 'wait'
    if (offer !== 'ours' && offer !== 'cancelled') return 'forget'
    return waited || others.every(other => other.taken) ? 'withdraw' : 'wait'
  }
  if (under === 'old' && token === 'next') return 'give-back'
  if (offer === undefined) return 'wait'
  if (offer === 'cancelled') return waited ? 'withdraw' : 'wait'
  if (under === 'other' || !mayAsk || offer === 'live') {
    if (!quiet) return 'wait'
    return offer === 'ours' ? 'cancel' : 'forget'
  }
  if (offer === 'over') return 'withdraw'
  if (offer === 'none') return 'offer'
  if (others.some(other => other.shown && !other.sealed)) return 'seal'
  return others.every(other => other.kept) ? 'ask' : 'wait'
}
