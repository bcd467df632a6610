import { gunzipSync } from 'node:zlib'

/**
 * What secrets look like in any file of a tree, where much else lies that only begins like one: names of keys in a document, packed
 * data, hashes. So each has to be whole. What is encrypted (sops, age, a key under a passphrase) looks like none of them. No pattern may
 * begin with an unbounded repetition, or a long line would take quadratic time.
 */
const SHAPES: readonly {
  readonly what: string
  readonly pattern: RegExp
  readonly isOne?: (found: string) => boolean
}[] = [
  {
    what: 'a private key',
    // With what follows, which may be one text with escaped ends of lines; of OpenSSH only what no passphrase encrypts.
    pattern:
      /-----BEGIN (?!ENCRYPTED )[A-Z0-9 ]{0,30}PRIVATE KEY-----(?:\\[nr]|[\s"'+]){1,80}(?!b3BlbnNzaC1rZXktdjEAAAAA(?!BG5v))[A-Za-z0-9+/=]{20}/g,
  },
  { what: 'a k3s token', pattern: /\bK10[0-9a-f]{64}::[A-Za-z0-9-]{1,63}:[^\s"'$<{]{8}/g },
  { what: 'a k0s join token', pattern: /\bH4sI[A-Za-z0-9+/]{100,32000}={0,2}/g, isOne: isJoinToken },
  { what: 'a Muster enrolment token', pattern: /\.[0-9a-f]{64}\.[0-9a-f]{64}\b/g },
  // A public key of Nix has 32 bytes, a secret one 64, as a hash has.
  { what: 'a secret signing key of Nix', pattern: /(?<!sha512):[A-Za-z0-9+/]{86}==/g },
  { what: 'an age secret key', pattern: /AGE-SECRET-KEY-1[0-9A-Z]{50}/gi },
  { what: 'a Tailscale key', pattern: /\btskey-[a-z]{1,20}-[A-Za-z0-9]{6,40}-[A-Za-z0-9]{12}/g },
  { what: 'a GitHub token', pattern: /\bgh[pousr]_[A-Za-z0-9]{36}/g },
]

/** Says of a text that it only looks like a secret, on its line or the one above. */
export const NO_SECRET = 'muster:no-secret'

export interface FoundSecret {
  readonly what: string
  readonly line: number
  readonly column: number
}

/** The first of each kind in a text, by its place. Never shows it. */
export function findSecretsIn(text: string): readonly FoundSecret[] {
  const found: FoundSecret[] = []
  for (const { what, pattern, isOne } of SHAPES) {
    for (const match of text.matchAll(pattern)) {
      if (isOne && !isOne(match[0])) continue
      const before = text.slice(0, match.index)
      const line = before.split('\n').length
      const start = before.lastIndexOf('\n') + 1
      const above = text.lastIndexOf('\n', start - 2) + 1
      const end = text.indexOf('\n', match.index)
      if (text.slice(above, end < 0 ? undefined : end).includes(NO_SECRET)) continue
      found.push({ what, line, column: match.index - start + 1 })
      break
    }
  }
  return found
}

/** Much else is packed and written so, too. */
function isJoinToken(text: string): boolean {
  try {
    const kubeconfig = gunzipSync(Buffer.from(text, 'base64'), { maxOutputLength: 256 * 1024 }).toString(
      'utf8',
    )
    return /(?:kubelet|controller)-bootstrap/.test(kubeconfig)
  } catch {
    // It is no such archive.
    return false
  }
}
