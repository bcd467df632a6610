import { agentsWith, isMadeWith, type SeenAgents, type StartTokens } from './agent-token.ts'
import { isSameToken, type TokenPair } from './token-pair.ts'

/** What a server sees that is asked for what another one is to join with. */
export interface JoinersView extends SeenAgents {
  /** The token of servers is being made anew, or may be yet. */
  readonly between: boolean
  /** The datastore is under the token that k3s has written down for joiners. */
  readonly current: boolean
  /** k3s lets in who shows that token; it takes what it was started with, whatever it has written down since. */
  readonly taken: boolean
}

/**
 * The token of servers is being made anew, or may be yet. Also when that is long over, as long as the files have one token of either
 * kind: whoever wrote them was killed in between, and does it once more.
 */
export function isBetween(
  pair: Pick<TokenPair, 'old' | 'next' | 'agents'> | undefined,
  kept: StartTokens,
  over: boolean,
): boolean {
  if (!pair) return false
  if (!over) return true
  const { token, agents } = kept
  if (token === undefined || agents === undefined) return false
  const startsWithNext = isSameToken(token, pair.next)
  const [own, other] = [
    agentsWith(pair, startsWithNext ? 'next' : 'old'),
    agentsWith(pair, startsWithNext ? 'old' : 'next'),
  ]
  return agents !== own && agents === other
}

/**
 * Why a server that joined by this one would not come up; undefined: it would. A joiner shows both tokens to who is joined, and starts
 * with both itself.
 */
export function whyNoJoiners(view: JoinersView): 'between' | 'restart' | undefined {
  if (view.between) return 'between'
  if (!view.current || !view.taken) return 'restart'
  const { printed, agents } = view
  const lags = printed !== undefined && agents !== undefined && !isSameToken(printed, agents)
  // Of a person's own both servers start with it, and not with what is kept.
  return lags && isMadeWith(view) ? 'restart' : undefined
}
