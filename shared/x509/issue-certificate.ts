import { sign } from 'node:crypto'
import { promisify } from 'node:util'
import forge from 'node-forge'
import { type Authority, newSerial, readForgeKey } from './authority.ts'
import {
  type CertificateTemplate,
  certificatePem,
  type Individual,
  templateOf,
} from './certificate-template.ts'
import { keyId } from './key-id.ts'
import { bytesToSign } from './native-signer.ts'
import type { PeerKind } from './peer-identity.ts'
import { readRsaPublicKey } from './public-key.ts'

/** A name or an address a server is reached by, in the form `server-names.ts` of the coordinator gives it. */
export interface SubjectAltName {
  readonly kind: 'dns' | 'ip'
  readonly value: string
}

export interface CertificateRequest {
  readonly authority: Authority
  readonly subject: {
    readonly kind: PeerKind
    /** SHA-256 of the public key. */
    readonly id: string
    /** For people. 1 to 64 printable characters. */
    readonly name?: string
  }
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeyDer: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  readonly sans?: readonly SubjectAltName[]
}

export interface IssuedCertificate {
  readonly certificatePem: string
  /** The certificate, then its authority's. */
  readonly chainPem: string
  /** In hex. */
  readonly serial: string
  readonly notAfter: Date
}

/** A certificate that is complete but for its signature, so that it is none yet. */
export interface PreparedCertificate {
  readonly notAfter: Date
  /** Signs at once, which keeps the event loop for as long as the key takes. */
  signNow(): IssuedCertificate
  /** Signs on another thread. */
  sign(): Promise<IssuedCertificate>
}

const signElsewhere = promisify(sign)

/** OID of the attribute `name` (X.520), which forge has no word for. */
const NAME_ATTRIBUTE = '2.5.4.41'
const UTF8: number = forge.asn1.Type.UTF8

/** Whether a text may stand as a name in a certificate: 1 to 64 printable characters, no blanks at the ends. */
export function isCertificateName(name: string): boolean {
  return (
    name.length >= 1 &&
    name.length <= 64 &&
    name.trim() === name &&
    /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u.test(name)
  )
}

/**
 * Issues a certificate. The kind and the id stand in the subject (O=Muster, OU=kind, CN=id), where `readPeerIdentity`
 * finds them; a client's certificate can never serve as a server's, nor the other way round. Throws on a request that
 * should not have come this far: check a stranger's key with `readRsaPublicKey` before.
 */
export function issueCertificate(request: CertificateRequest): IssuedCertificate {
  return prepareCertificate(request).signNow()
}

/** As `issueCertificate`, but for the signature: most of the time that a certificate takes. */
export function prepareCertificate(request: CertificateRequest): PreparedCertificate {
  const { authority, subject, publicKeyDer } = request
  const reading = readRsaPublicKey(publicKeyDer)
  if (!reading.ok) throw new Error(reading.reason)
  if (subject.id !== keyId(publicKeyDer)) throw new Error('subject.id: is not the hash of the public key')
  if (subject.name !== undefined && !isCertificateName(subject.name)) {
    throw new RangeError('subject.name: wanted 1 to 64 printable characters')
  }
  // A certificate cannot outlive who vouches for it; and its dates have whole seconds.
  const notAfter = wholeSecond(new Date(Math.min(request.notAfter.getTime(), authority.notAfter.getTime())))
  const notBefore = wholeSecond(request.notBefore)
  if (!(notBefore < notAfter))
    throw new RangeError('notAfter: must come after notBefore and within the authority’s life')

  const serial = newSerial()
  const individual = { serial, notBefore, notAfter, id: subject.id, publicKeyDer }
  const bytes = templates.fill(request, individual) ?? describe(request, individual)
  templates.keep(request, individual, bytes)
  const finish = (signature: Buffer): IssuedCertificate => {
    const pem = certificatePem(bytes, signature)
    return { certificatePem: pem, chainPem: pem + authority.certificatePem, serial, notAfter }
  }
  return {
    notAfter,
    signNow: () => finish(sign('sha256', bytes, authority.privateKey)),
    sign: async () => finish(await signElsewhere('sha256', bytes, authority.privateKey)),
  }
}

/** The bytes that the authority signs. */
function describe(
  { authority, subject, publicKeyDer, sans = [] }: CertificateRequest,
  { serial, notBefore, notAfter }: Individual,
): Buffer {
  const certificate = forge.pki.createCertificate()
  certificate.publicKey = readForgeKey(publicKeyDer)
  certificate.serialNumber = serial
  certificate.validity.notBefore = notBefore
  certificate.validity.notAfter = notAfter
  certificate.setSubject([
    { shortName: 'O', value: 'Muster' },
    { shortName: 'OU', value: subject.kind },
    { shortName: 'CN', value: subject.id },
    ...(subject.name === undefined
      ? []
      : [{ type: NAME_ATTRIBUTE, value: subject.name, valueTagClass: UTF8 }]),
  ])
  certificate.setIssuer([...authority.issuer.attributes])
  const isServer = subject.kind === 'server'
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: false },
    { name: 'keyUsage', critical: true, digitalSignature: true },
    { name: 'extKeyUsage', ...(isServer ? { serverAuth: true } : { clientAuth: true }) },
    { name: 'subjectKeyIdentifier' },
    { name: 'authorityKeyIdentifier', keyIdentifier: authority.issuer.keyIdentifier },
    ...(sans.length === 0 ? [] : [{ name: 'subjectAltName', altNames: sans.map(toAltName) }]),
  ])
  return bytesToSign(certificate)
}

/** Templates that are kept: of an authority and its successor, for keys of the usual lengths. */
const MAX_TEMPLATES = 16

/**
 * What was signed for clients without a name of their own, by authority, kind and length of the key: all machines'
 * certificates are alike but for a few bytes, and forge takes most of a millisecond to put one together.
 */
class Templates {
  readonly #kept = new Map<string, CertificateTemplate>()

  fill(request: CertificateRequest, individual: Individual): Buffer | undefined {
    const key = keyOf(request)
    return key === undefined ? undefined : this.#kept.get(key)?.fill(individual)
  }

  keep(request: CertificateRequest, individual: Individual, bytes: Buffer): void {
    const key = keyOf(request)
    if (key === undefined || this.#kept.has(key)) return
    const template = templateOf(bytes, individual)
    if (!template) return
    if (this.#kept.size >= MAX_TEMPLATES) this.#kept.clear()
    this.#kept.set(key, template)
  }
}

const templates = new Templates()

function keyOf({ authority, subject, sans = [], publicKeyDer }: CertificateRequest): string | undefined {
  if (subject.name !== undefined || sans.length > 0) return undefined
  return `${authority.certificate.fingerprint256} ${subject.kind} ${publicKeyDer.length}`
}

function toAltName({ kind, value }: SubjectAltName): object {
  return kind === 'dns' ? { type: 2, value } : { type: 7, ip: value }
}

function wholeSecond(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000)
}
