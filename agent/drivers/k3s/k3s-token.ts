import { createHash } from 'node:crypto'

/** What a k3s token says of itself: the authority that it pins, and who shows it. */
export interface K3sToken {
  /** SHA-256 (hex) of the authority's certificate file. */
  readonly authorityHash: string
  readonly credentials: string
}

/** K10HASH::CREDENTIALS; undefined: it pins no authority, and whoever used it would believe the first one it meets. */
export function readK3sToken(text: string): K3sToken | undefined {
  const found = /^K10([0-9a-f]{64})::(\S+)$/.exec(text.trim())
  const [, authorityHash, credentials] = found ?? []
  return authorityHash === undefined || credentials === undefined ? undefined : { authorityHash, credentials }
}

export const writeK3sToken = ({ authorityHash, credentials }: K3sToken): string =>
  `K10${authorityHash}::${credentials}`

/** The id of a bootstrap token, by which it is deleted; undefined: it is of another kind. */
export function bootstrapId({ credentials }: K3sToken): string | undefined {
  return /^([a-z0-9]{6})\.[a-z0-9]{16}$/.exec(credentials)?.[1]
}

/** Pins the authority in what the program printed without one. */
export function pinned(printed: string, authorityFile: Buffer): K3sToken {
  const read = readK3sToken(printed)
  if (read) return read
  return {
    authorityHash: createHash('sha256').update(authorityFile).digest('hex'),
    credentials: printed.trim(),
  }
}
