import type { Under, Which } from './token-pair.ts'

/** What a server sees that is to keep another server's new token, or whose own rotation was left unfinished. */
export interface FollowView {
  readonly pair:
    | undefined
    | {
        /** Of a rotation of this server. */
        readonly own: boolean
        /** It is the one that is offered. */
        readonly offered: boolean
        /** It is so long ago that nobody can ask for it any more. */
        readonly over: boolean
      }
  /** With which this server starts. */
  readonly token: Which
  /** Without a pair "old" is the token that this server starts with. undefined: the datastore does not say. */
  readonly under: Under | undefined
  /** undefined: it cannot be read. */
  readonly offer: 'none' | 'live' | 'cancelled' | 'over' | undefined
  /** What the offer has of this server: nothing, its key, a token that is sealed to it. */
  readonly mine: 'nothing' | 'key' | 'token'
  /** What this server has said in the offer. */
  readonly said: 'nothing' | 'kept' | 'taken'
  /** k3s does not come up, and says that the datastore is under another token. */
  readonly refused: boolean
}

export type FollowStep =
  | 'show-key'
  /** Opens what is offered, and keeps it beside the token. */
  | 'keep'
  | 'say-kept'
  | 'take'
  | 'give-back'
  | 'say-taken'
  /** Starts with the other one of the two. */
  | 'exchange'
  | 'drop-old-key'
  | 'withdraw'
  | 'forget'
  /** Looks again soon. */
  | 'wait'
  /** There is nothing to be done. */
  | 'rest'

/**
 * What a server does next about a token that another one makes. INVARIANTS: it says that it keeps a token when it does; a token is
 * forgotten only while the datastore is under the other one and nobody can ask for a change any more, or when another rotation
 * shows that; with which one it starts is changed without the datastore's own word only when k3s does not come up for it.
 */
export function nextFollowStep(view: FollowView): FollowStep {
  const { pair, token, under, offer, mine, said, refused } = view
  const live = offer === 'live'
  const begin = mine === 'token' ? 'keep' : mine === 'nothing' ? 'show-key' : 'wait'
  // What was taken is not kept once more beside itself.
  if (!pair) return live && under === 'old' && said !== 'taken' ? begin : 'rest'
  if (refused) return 'exchange'
  if (under === undefined) return 'wait'
  if (under === 'next' || under === 'both') {
    if (token === 'old') return 'take'
    if (under === 'both') return pair.own || pair.over ? 'drop-old-key' : 'wait'
    if (offer === undefined) return 'wait'
    if (!pair.offered) return 'forget'
    if (pair.own) return 'withdraw'
    return said === 'taken' ? 'forget' : 'say-taken'
  }
  if (under === 'old' && token === 'next') return 'give-back'
  if (offer === undefined) return 'wait'
  if (pair.offered && live && !pair.own && under === 'old') return said === 'nothing' ? 'say-kept' : 'wait'
  // Whoever made it asks for it no more.
  if (pair.offered && offer === 'cancelled') return pair.own ? 'withdraw' : 'forget'
  if (pair.over) return pair.own && pair.offered ? 'withdraw' : 'forget'
  return live && !pair.offered && !pair.own && under === 'old' ? begin : 'wait'
}
