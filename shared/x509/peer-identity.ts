import { X509Certificate } from 'node:crypto'
import { isDigest } from '../ids.ts'
import { keyId } from './key-id.ts'

/** Who a certificate speaks for. The kind stands in the subject's OU, the id in its CN. */
export type PeerKind = 'machine' | 'operator' | 'server'

export interface PeerIdentity {
  readonly kind: PeerKind
  /** SHA-256 of the certificate's own public key. */
  readonly id: string
  /** For people, as given when the certificate was made: an operator's name. */
  readonly name?: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly publicKeyDer: Buffer
}

export type PeerIdentityReading =
  | { readonly ok: true; readonly identity: PeerIdentity }
  | { readonly ok: false; readonly reason: string }

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const PURPOSE: Readonly<Record<PeerKind, string>> = {
  machine: CLIENT_AUTH,
  operator: CLIENT_AUTH,
  server: SERVER_AUTH,
}

const refuse = (reason: string): PeerIdentityReading => ({ ok: false, reason })

function isPeerKind(text: string): text is PeerKind {
  return Object.hasOwn(PURPOSE, text)
}

/**
 * Reads who a certificate speaks for. It says nothing about who issued it: hand it only what TLS has verified, or check
 * the issuer too.
 */
export function readPeerIdentity(certificate: X509Certificate | Uint8Array): PeerIdentityReading {
  let parsed: X509Certificate
  try {
    parsed = certificate instanceof X509Certificate ? certificate : new X509Certificate(certificate)
  } catch {
    return refuse('not an X.509 certificate')
  }
  const fields = readSubject(parsed.subject)
  if (!fields) return refuse('the subject names something twice, or nothing')
  const kind = fields.get('OU')
  if (fields.get('O') !== 'Muster' || kind === undefined || !isPeerKind(kind)) {
    return refuse('the subject is none of a machine, an operator or a server of Muster')
  }
  if (parsed.ca) return refuse(`the certificate of a ${kind} may not be an authority`)
  const purposes: readonly string[] = parsed.keyUsage ?? []
  if (purposes.length !== 1 || purposes[0] !== PURPOSE[kind]) {
    return refuse(`the extended key usage is not that of a ${kind}`)
  }
  const publicKeyDer = parsed.publicKey.export({ type: 'spki', format: 'der' })
  const id = fields.get('CN') ?? ''
  if (!isDigest(id) || id !== keyId(publicKeyDer))
    return refuse('the id is not the hash of the certificate’s key')
  const name = fields.get('name')
  const identity = {
    kind,
    id,
    ...(name === undefined ? {} : { name }),
    notBefore: new Date(parsed.validFrom),
    notAfter: new Date(parsed.validTo),
    publicKeyDer,
  }
  return { ok: true, identity }
}

/** Node prints one attribute a line, with RFC 2253 escapes inside values; control characters come as \XX. */
function readSubject(subject: string | undefined): Map<string, string> | undefined {
  const fields = new Map<string, string>()
  for (const line of (subject ?? '').split('\n')) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(line) ?? []
    if (key === undefined || value === undefined || fields.has(key)) return undefined
    fields.set(key, unescapeValue(value))
  }
  return fields
}

function unescapeValue(value: string): string {
  return value.replace(/\\([0-9A-Fa-f]{2}|.)/gsu, (_, escaped: string) =>
    escaped.length === 2 && /^[0-9A-Fa-f]{2}$/.test(escaped)
      ? String.fromCharCode(Number.parseInt(escaped, 16))
      : escaped,
  )
}
