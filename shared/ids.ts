import { createHash, randomBytes } from 'node:crypto'

/** SHA-256 in lower-case hex. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** A random id of 128 bits in lower-case hex. */
export function randomId(): string {
  return randomBytes(16).toString('hex')
}

/** Whether a text is a SHA-256 in lower-case hex, as all ids of keys and digests are. */
export function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

/** An operation's id: sortable by time of ordering, then random. */
export function operationId(now: Date): string {
  return `${now.getTime().toString(36).padStart(9, '0')}-${randomBytes(6).toString('hex')}`
}
