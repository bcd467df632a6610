import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { isDigest } from '../ids.ts'
import { keyId } from './key-id.ts'
import { SERVER_AUTH } from './peer-identity.ts'

/** Why a server's chain is not taken. `clock` means that all else is right and only the time is outside its dates. */
export type ChainFault = 'malformed' | 'pin' | 'chain' | 'host' | 'clock'

export type PinnedChain =
  | { readonly ok: true; readonly caPem: string; readonly pin: string; readonly notAfter: Date }
  | { readonly ok: false; readonly fault: ChainFault; readonly reason: string }

const MAX_CERTIFICATES = 4
const MAX_BYTES = 16 * 1024

const refuse = (fault: ChainFault, reason: string): PinnedChain => ({ ok: false, fault, reason })

/**
 * Proves a server's chain (leaf first) against the pins of the authorities a machine trusts, each the SHA-256 of an
 * authority's public key. What it gives back is the authority to hand to TLS as its only root: a connection may carry
 * something only after TLS has verified it with that root, since the server may answer differently the second time.
 */
export function verifyPinnedChain(
  chainDer: readonly Uint8Array[],
  pins: string | readonly string[],
  expectedHost: string | undefined,
  now: Date,
): PinnedChain {
  const wanted = typeof pins === 'string' ? [pins] : pins
  if (wanted.length === 0 || !wanted.every(isDigest)) {
    return refuse('pin', 'a CA pin is 64 lower-case hex characters, and one is needed')
  }
  if (chainDer.length < 2)
    return refuse('malformed', 'the server sent no authority beside its own certificate')
  if (chainDer.length > MAX_CERTIFICATES) {
    return refuse(
      'malformed',
      `the server sent ${chainDer.length} certificates, at most ${MAX_CERTIFICATES} are read`,
    )
  }
  const chain: X509Certificate[] = []
  for (const der of chainDer) {
    const certificate = readCertificate(der)
    if (!certificate) return refuse('malformed', 'the server sent something that is no certificate')
    chain.push(certificate)
  }
  const [leaf, ...issuers] = chain
  const authority = issuers.find(issuer => wanted.includes(pinOf(issuer)))
  if (!leaf || !authority) {
    const shown = issuers.map(pinOf).join(', ')
    return refuse('pin', `the server shows the authority ${shown}, wanted ${wanted.join(' or ')}`)
  }
  if (!authority.ca || !isIssuedBy(authority, authority)) {
    return refuse('chain', 'the pinned key does not come as an authority that signed itself')
  }
  if (leaf.ca || !isIssuedBy(leaf, authority)) {
    return refuse('chain', 'the pinned authority did not issue the server’s certificate')
  }
  const purposes: readonly string[] = leaf.keyUsage ?? []
  if (!purposes.includes(SERVER_AUTH)) return refuse('chain', 'the certificate is not that of a server')
  if (expectedHost !== undefined && !namesHost(leaf, expectedHost)) {
    return refuse(
      'host',
      `the server’s certificate is for ${leaf.subjectAltName ?? 'no name'}, wanted ${expectedHost}`,
    )
  }
  for (const certificate of [leaf, authority]) {
    const from = new Date(certificate.validFrom)
    const to = new Date(certificate.validTo)
    // Written so that a date which cannot be read, on either side, is a refusal.
    if (!(now >= from && now <= to)) {
      const dates = `${certificate.validFrom} to ${certificate.validTo}`
      return refuse(
        'clock',
        `this machine’s clock says ${clockText(now)}, the server’s certificate is good from ${dates}`,
      )
    }
  }
  return { ok: true, caPem: authority.toString(), pin: pinOf(authority), notAfter: new Date(leaf.validTo) }
}

function readCertificate(der: Uint8Array): X509Certificate | undefined {
  if (der.length > MAX_BYTES) return undefined
  try {
    const certificate = new X509Certificate(der)
    // The parser also takes PEM, and DER with something behind it.
    return certificate.raw.equals(der) ? certificate : undefined
  } catch {
    return undefined
  }
}

function pinOf(certificate: X509Certificate): string {
  try {
    return keyId(certificate.publicKey.export({ type: 'spki', format: 'der' }))
  } catch {
    return 'with an unreadable key'
  }
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
  } catch {
    return false
  }
}

function namesHost(leaf: X509Certificate, host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1')
  return isIP(bare)
    ? leaf.checkIP(bare) !== undefined
    : leaf.checkHost(bare, { subject: 'never' }) !== undefined
}

function clockText(now: Date): string {
  return Number.isNaN(now.getTime()) ? 'nothing readable' : now.toISOString()
}
