import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

export interface NewToken {
  readonly id: string
  readonly secret: string
  /** What is kept of the secret. */
  readonly secretHash: string
}

export function makeToken(): NewToken {
  const secret = randomBytes(32).toString('base64url')
  return { id: randomBytes(8).toString('hex'), secret, secretHash: hashSecret(secret) }
}

function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}

/** Compared in constant time; where there is no such token a comparison is made all the same. */
export function isSecret(secret: string, kept: string | undefined): boolean {
  const given = Buffer.from(hashSecret(secret), 'hex')
  const wanted = kept === undefined ? Buffer.alloc(given.length) : Buffer.from(kept, 'hex')
  return wanted.length === given.length && timingSafeEqual(given, wanted) && kept !== undefined
}

/** What an operator hands to a machine: `id.secret.ca.trust`. Without a trust set the last part is empty. */
export function tokenText(token: Pick<NewToken, 'id' | 'secret'>, caPin: string, trustPin: string): string {
  return `${token.id}.${token.secret}.${caPin}.${trustPin}`
}
