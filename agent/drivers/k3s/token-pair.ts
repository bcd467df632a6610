import { sha256Hex } from '../../../shared/ids.ts'
import { at, readObject, textAt } from '../../../shared/read-value.ts'

/**
 * The token of servers and the one that is to take its place, kept together from before the cluster can be under the new one until it
 * is known for good which it is under: whichever the datastore wants at a start, this server has it. INVARIANT: the file is
 * written once for a rotation; which of both counts is said by the file `token` alone.
 */
export interface TokenPair {
  /** Of this rotation alone: no two new tokens have the same. */
  readonly id: string
  /** The operation that makes it; "": another server's. */
  readonly operation: string
  /** As they stand in the file that k3s reads. */
  readonly old: string
  readonly next: string
  /** What agents used with the old one; "": theirs is not changed, since somebody else says it. */
  readonly agents: string
  /** Until when it may be asked for, by the clock of the server that makes it; in milliseconds since 1970. */
  readonly untilMs: number
  /** k3s has been asked for it by this server, so that it may come to be at any moment. */
  readonly asked: boolean
}

/** Which of a pair. */
export type Which = 'old' | 'next'

/** Under which token the datastore keeps the cluster's keys; "other": under neither of these. */
export type Under = Which | 'both' | 'other'

/** After so much more than its time nobody can ask for what was offered, whatever two clocks differ by. */
const OVER_MS = 10 * 60_000

export const isOver = (untilMs: number, nowMs: number): boolean => nowMs > untilMs + OVER_MS

export const writePair = (pair: TokenPair): string => `${JSON.stringify(pair)}\n`

/** undefined: it is none. */
export function readPair(text: string | undefined): TokenPair | undefined {
  const value = text === undefined ? undefined : readObject(text)
  const [id, operation, old, next] = ['id', 'operation', 'old', 'next'].map(name => textAt(value, name))
  const agents = textAt(value, 'agents')
  const [untilMs, asked] = [at(value, 'untilMs'), at(value, 'asked')]
  if (!id || operation === undefined || !old || !next || agents === undefined) return undefined
  if (typeof untilMs !== 'number' || typeof asked !== 'boolean') return undefined
  return { id, operation, old, next, agents, untilMs, asked }
}

/** What k3s compares of a token, in whatever form it stands: K10HASH::USER:PASSWORD, USER:PASSWORD or PASSWORD. */
export function passwordOf(token: string): string {
  const text = token.trim()
  const bare = text.startsWith('K10') ? text.slice(text.indexOf('::') + 2) : text
  const colon = bare.indexOf(':')
  return colon < 0 ? bare : bare.slice(colon + 1)
}

export const isSameToken = (one: string, other: string): boolean => passwordOf(one) === passwordOf(other)

/** Where k3s keeps the cluster's keys in the datastore, encrypted by a token. */
export const KEYS_BELOW = '/bootstrap/'
export const keyOfToken = (token: string): string =>
  `${KEYS_BELOW}${sha256Hex(Buffer.from(passwordOf(token))).slice(0, 12)}`

export function underWhich({ old, next }: Pick<TokenPair, 'old' | 'next'>, keys: readonly string[]): Under {
  const [isOld, isNext] = [keys.includes(keyOfToken(old)), keys.includes(keyOfToken(next))]
  if (isOld) return isNext ? 'both' : 'old'
  return isNext ? 'next' : 'other'
}
