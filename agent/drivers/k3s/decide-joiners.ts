import { isMadeWith, type SeenAgents } from './agent-token.ts'
import { isSameToken } from './token-pair.ts'

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
