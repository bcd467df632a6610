import type { Authority } from '../../shared/x509/authority.ts'
import {
  type IssuedCertificate,
  type PreparedCertificate,
  prepareCertificate,
} from '../../shared/x509/issue-certificate.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { readRsaPublicKey } from '../../shared/x509/public-key.ts'
import { BACKDATE_MS } from './lifetimes.ts'

interface Whose {
  /** SHA-256 of the certified key. */
  readonly id: string
  /** The pin of the authority that issued. */
  readonly issuer: string
}

export type Issued =
  | ({ readonly ok: true; readonly certificate: IssuedCertificate } & Whose)
  | { readonly ok: false; readonly reason: string }

export type PreparedClient =
  | ({ readonly ok: true; readonly certificate: PreparedCertificate } & Whose)
  | { readonly ok: false; readonly reason: string }

export interface ClientRequest {
  readonly authority: Authority
  readonly kind: 'machine' | 'operator'
  /** From a stranger: checked here. */
  readonly publicKeyDer: Uint8Array
  readonly lifetimeMs: number
  readonly now: Date
  readonly name?: string
}

/** Certifies a key for the fleet listener. What is wrong with the key, or with the authority's age, is a value. */
export function issueClient(request: ClientRequest): Issued {
  const prepared = prepareClient(request)
  return prepared.ok ? { ...prepared, certificate: prepared.certificate.signNow() } : prepared
}

/** The same, with the signature still to be made. */
export function prepareClient({
  authority,
  kind,
  publicKeyDer,
  lifetimeMs,
  now,
  name,
}: ClientRequest): PreparedClient {
  const reading = readRsaPublicKey(publicKeyDer)
  if (!reading.ok) return reading
  if (now >= authority.notAfter) {
    return { ok: false, reason: `the authority ${authority.pin} has expired; rotate to a new one` }
  }
  const id = keyId(publicKeyDer)
  const certificate = prepareCertificate({
    authority,
    subject: { kind, id, ...(name === undefined ? {} : { name }) },
    publicKeyDer,
    notBefore: new Date(now.getTime() - BACKDATE_MS),
    notAfter: new Date(now.getTime() + lifetimeMs),
  })
  return { ok: true, id, issuer: authority.pin, certificate }
}
