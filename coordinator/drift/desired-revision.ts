/** A rollout to a revision, or one that went back, which named a host. */
export interface NamedBy {
  readonly rollout: string
  readonly action: 'apply' | 'rollback'
  /** 0: it went back to what ran before. */
  readonly revision: number
  /** The rollout that it takes back; empty: none. */
  readonly reverts: string
  readonly state: string
  /** How the host ended in it; empty: it is not over. */
  readonly endedAs: string
}

export interface DesiredRevision {
  /** 0: what ran before any rollout. */
  readonly revision: number
  readonly by: 'pin' | 'rollout' | 'fleet'
  /** The last word was that it goes back, so whatever it went back to is right. */
  readonly back: boolean
}

const OVER = ['succeeded', 'failed', 'aborted']

/**
 * What a host should be: its pin, else what the last rollout that named it says, else the fleet's current revision. A rollout that failed or
 * was aborted says nothing of the hosts that it did not move; one that goes back takes the word of the one before, but not where it left the
 * host behind, for nobody comes back to that. `named`: newest first.
 */
export function desiredRevision(
  pin: number | undefined,
  named: readonly NamedBy[],
  current: number,
): DesiredRevision | undefined {
  if (pin !== undefined) return { revision: pin, by: 'pin', back: false }
  const takenBack = new Set<string>()
  let back = false
  let passes = 0
  for (const { rollout, action, revision, reverts, state, endedAs } of named) {
    const isKept = action === 'apply' && state === 'succeeded'
    if (OVER.includes(state) && !isKept && endedAs !== 'done') continue
    if (action === 'rollback') {
      back ||= passes === 0 && takenBack.size === 0
      if (reverts === '') passes += 1
      else takenBack.add(reverts)
    } else if (takenBack.has(rollout)) takenBack.delete(rollout)
    else if (passes > 0) passes -= 1
    else return { revision, by: 'rollout', back }
  }
  if (back) return { revision: 0, by: 'rollout', back }
  return current === 0 ? undefined : { revision: current, by: 'fleet', back: false }
}
