import { isDigest } from '../ids.ts'

/** What was opened here and may not be opened again: until when each could still pass otherwise, by its digest. */
export type SpentSecrets = ReadonlyMap<string, number>

/** A machine joins a cluster seldom; so many open secrets at once are somebody’s doing. */
export const MAX_SPENT = 64
/** The node's clock may be set back by so much without a spent secret becoming good again. */
const KEEP_MS = 24 * 60 * 60_000

export type Spending =
  | { readonly kind: 'spent'; readonly spent: SpentSecrets }
  | { readonly kind: 'full'; readonly reason: string }

/**
 * The set with one more in it; write it down before the secret is used. Those whose time is long over are forgotten. A
 * set that is full takes none: the secret may then not be used, since nobody would know it again.
 */
export function spendSecret(
  spent: SpentSecrets,
  secret: { digest: string; expiresMs: number },
  nowMs: number,
): Spending {
  const left = [...spent].filter(([, expiresMs]) => expiresMs + KEEP_MS > nowMs)
  if (left.length >= MAX_SPENT && !spent.has(secret.digest)) {
    return {
      kind: 'full',
      reason: `${MAX_SPENT} secrets were opened here within a day; the next can be opened when the first of them is forgotten`,
    }
  }
  return { kind: 'spent', spent: new Map([...left, [secret.digest, secret.expiresMs]]) }
}

/** As text for a file of the node's. */
export function writeSpent(spent: SpentSecrets): string {
  return `${JSON.stringify({ spent: Object.fromEntries(spent) })}\n`
}

/** Reads what `writeSpent` wrote; undefined: it is damaged, which is a refusal of every secret and never an empty set. */
export function readSpent(text: string): SpentSecrets | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || !('spent' in value)) return undefined
  const { spent } = value
  if (typeof spent !== 'object' || spent === null || Array.isArray(spent)) return undefined
  const entries: [string, number][] = []
  for (const [digest, expiresMs] of Object.entries(spent)) {
    if (!isDigest(digest) || typeof expiresMs !== 'number' || !Number.isSafeInteger(expiresMs))
      return undefined
    entries.push([digest, expiresMs])
  }
  return entries.length <= 2 * MAX_SPENT ? new Map(entries) : undefined
}
