import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'
import type { SubjectAltName } from '../../shared/x509/issue-certificate.ts'

const MAX_NAMES = 64
const HOST_NAME =
  /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/

export type ServerNames =
  | { readonly ok: true; readonly sans: readonly SubjectAltName[] }
  | { readonly ok: false; readonly reason: string }

/**
 * The names and addresses for the listeners' certificate: those configured, then localhost in its three forms, then this
 * computer's own name where it can stand in a certificate. A configured name that cannot is a refusal, since a machine
 * told to use it could never connect.
 */
export function readServerNames(configured: readonly string[], hostname: string): ServerNames {
  const sans = new Map<string, SubjectAltName>()
  const add = (san: SubjectAltName) => sans.set(`${san.kind} ${san.value}`, san)
  for (const text of configured) {
    const san = readName(text)
    if (!san) return { ok: false, reason: `${JSON.stringify(text)} is neither a host name nor an IP address` }
    add(san)
  }
  for (const text of ['localhost', '127.0.0.1', '::1', hostname]) {
    const san = readName(text)
    if (san) add(san)
  }
  if (sans.size > MAX_NAMES)
    return { ok: false, reason: `${sans.size} names and addresses, at most ${MAX_NAMES} fit` }
  return { ok: true, sans: [...sans.values()] }
}

function readName(text: string): SubjectAltName | undefined {
  const bare = text.trim().replace(/^\[(.*)\]$/, '$1')
  switch (isIP(bare)) {
    case 4:
      return { kind: 'ip', value: bare }
    case 6: {
      if (bare.includes('%')) return undefined // the zone means something on one computer only
      return { kind: 'ip', value: new URL(`http://[${bare}]`).hostname.slice(1, -1) }
    }
    default: {
      const ascii = domainToASCII(bare.replace(/\.$/, '')).toLowerCase()
      // 10.0.0.256 would pass for a host name, and nobody means that.
      return HOST_NAME.test(ascii) && !/^[0-9.]+$/.test(ascii) ? { kind: 'dns', value: ascii } : undefined
    }
  }
}

/** The same, for names that were checked when the configuration was read: throws with the name at fault. */
export function requireServerNames(
  configured: readonly string[],
  hostname: string,
): readonly SubjectAltName[] {
  const reading = readServerNames(configured, hostname)
  if (!reading.ok) throw new RangeError(`names: ${reading.reason}`)
  return reading.sans
}

export function sameNames(a: readonly SubjectAltName[], b: readonly SubjectAltName[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
