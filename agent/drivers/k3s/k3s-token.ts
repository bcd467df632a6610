import { createHash, X509Certificate } from 'node:crypto'

/** What a k3s token says of itself: the authority that it pins, and who shows it. */
export interface K3sToken {
  /** What names the authority: `authorityHash` of its certificate file. */
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

/**
 * SHA-256 (hex) of the authority's certificate file, byte for byte, as k3s makes it. Where that holds more certificates than one, as
 * that of an authority which was signed by another or made anew does, of the root of the first one.
 */
export function authorityHash(file: Buffer): string {
  const [first, ...others] = certificatesIn(file)
  const root = first && others.length > 0 ? rootOf(first, others) : undefined
  return createHash('sha256')
    .update(root?.raw ?? file)
    .digest('hex')
}

function certificatesIn(file: Buffer): readonly X509Certificate[] {
  const blocks = file
    .toString('latin1')
    .match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g)
  try {
    return (blocks ?? []).map(pem => new X509Certificate(pem))
  } catch {
    return []
  }
}

/** Who signed for a certificate, and for that one, as far as these tell; undefined: none of them ends the chain. */
function rootOf(first: X509Certificate, others: readonly X509Certificate[]): X509Certificate | undefined {
  let last = first
  for (let links = 0; links <= others.length; links += 1) {
    const signer = others.find(each => last.checkIssued(each) && last.verify(each.publicKey))
    if (!signer) return undefined
    // It signed for itself.
    if (signer.checkIssued(signer)) return signer
    last = signer
  }
  return undefined
}

/** Pins the authority in what the program printed without one. */
export function pinned(printed: string, authorityFile: Buffer): K3sToken {
  return readK3sToken(printed) ?? { authorityHash: authorityHash(authorityFile), credentials: printed.trim() }
}
