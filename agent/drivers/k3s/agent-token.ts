import { sha256Hex } from '../../../shared/ids.ts'
import { isSameToken, passwordOf, type TokenPair, type Which } from './token-pair.ts'

/**
 * The token of agents that goes with a new token of servers: made from it, so that whoever is handed the one has the other, at the same
 * moment and by the same seal. One way only: a worker that knows this one knows nothing of the servers'.
 */
export const agentTokenAfter = (next: string): string =>
  sha256Hex(Buffer.from(`muster agent token\n${passwordOf(next)}\n`)).slice(0, 48)

/** The token of agents that goes with one of a pair; undefined: it is not ours to say. */
export function agentsWith(pair: Pick<TokenPair, 'next' | 'agents'>, which: Which): string | undefined {
  if (pair.agents === '') return undefined
  return which === 'next' ? agentTokenAfter(pair.next) : pair.agents
}

/** The files that k3s reads at its next start, as far as they say a token. */
export interface StartTokens {
  readonly token: string | undefined
  readonly agents: string | undefined
}

export interface TokenWrite {
  readonly name: 'agent-token' | 'token'
  readonly text: string
}

/**
 * What is written, one after the other, for k3s to start with one of a pair. INVARIANT: the token of servers comes last. It alone says
 * which of the pair counts, so that whoever is killed in between is told to do it once more.
 */
export function writesToStartWith(
  pair: Pick<TokenPair, Which | 'agents'>,
  which: Which,
  now: StartTokens,
): readonly TokenWrite[] {
  const agents = agentsWith(pair, which)
  const writes: TokenWrite[] = []
  if (agents !== undefined && agents !== now.agents) writes.push({ name: 'agent-token', text: agents })
  if (now.token !== pair[which]) writes.push({ name: 'token', text: pair[which] })
  return writes
}

/** What is known here of the token of agents. */
export interface SeenAgents extends StartTokens {
  /** What k3s says that it takes, as long as it runs; undefined: it has not said. */
  readonly printed: string | undefined
}

/** It was made with the token of servers that is kept. */
export const isMadeWith = ({ token, agents }: StartTokens): boolean =>
  token !== undefined && agents !== undefined && isSameToken(agents, agentTokenAfter(token))

/** k3s was started with another one than is kept here, and than was ever made here: with a person's own. */
export function isSomebodyElses(seen: SeenAgents): boolean {
  // Where none is given, agents use the servers'.
  const kept = seen.agents ? seen.agents : seen.token
  if (seen.printed === undefined || isMadeWith(seen)) return false
  return kept === undefined || !isSameToken(seen.printed, kept)
}
