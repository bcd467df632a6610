import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto'
import forge from 'node-forge'
import { keyId } from './key-id.ts'
import { generateMachineKey } from './machine-key.ts'
import { nativeSigner } from './native-signer.ts'

/** An authority as it is kept: both in PEM, the key in PKCS #8. */
export interface AuthorityMaterial {
  readonly privateKeyPem: string
  readonly certificatePem: string
}

/** An authority ready to issue. */
export interface Authority {
  /** SHA-256 of its public key. */
  readonly pin: string
  readonly certificatePem: string
  readonly certificate: X509Certificate
  readonly notAfter: Date
  readonly privateKey: KeyObject
  /** What certificates of this authority carry as their issuer, read once. */
  readonly issuer: {
    readonly attributes: readonly forge.pki.CertificateField[]
    readonly keyIdentifier: string
  }
}

export interface NewAuthority {
  readonly notBefore: Date
  readonly notAfter: Date
  readonly bits?: number
}

/** Makes an authority that signs itself. Its name carries the start of its pin, so that two of one fleet differ. */
export async function createAuthority({
  notBefore,
  notAfter,
  bits = 3072,
}: NewAuthority): Promise<AuthorityMaterial> {
  const { privateKeyPem, publicKeyDer } = await generateMachineKey(bits)
  const certificate = forge.pki.createCertificate()
  certificate.publicKey = readForgeKey(publicKeyDer)
  certificate.serialNumber = newSerial()
  certificate.validity.notBefore = notBefore
  certificate.validity.notAfter = notAfter
  const name = [
    { type: forge.pki.oids.organizationName ?? '', value: 'Muster' },
    { type: forge.pki.oids.commonName ?? '', value: `Muster authority ${keyId(publicKeyDer).slice(0, 16)}` },
  ]
  certificate.setSubject(name)
  certificate.setIssuer(name)
  const keyIdentifier = certificate.generateSubjectKeyIdentifier().getBytes()
  certificate.setExtensions([
    { name: 'basicConstraints', critical: true, cA: true, pathLenConstraint: 0 },
    { name: 'keyUsage', critical: true, keyCertSign: true, cRLSign: true },
    { name: 'subjectKeyIdentifier' },
    { name: 'authorityKeyIdentifier', keyIdentifier },
  ])
  certificate.sign(nativeSigner(createPrivateKey(privateKeyPem)), forge.md.sha256.create())
  return { privateKeyPem, certificatePem: toPem(certificate) }
}

/** Reads an authority and proves that its parts belong together. Throws with what is wrong. */
export function openAuthority({ privateKeyPem, certificatePem }: AuthorityMaterial): Authority {
  const privateKey = createPrivateKey(privateKeyPem)
  const certificate = new X509Certificate(certificatePem)
  const publicKeyDer = certificate.publicKey.export({ type: 'spki', format: 'der' })
  if (!createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).equals(publicKeyDer)) {
    throw new Error('the private key is not that of the certificate')
  }
  if (
    !certificate.ca ||
    !certificate.checkIssued(certificate) ||
    !certificate.verify(certificate.publicKey)
  ) {
    throw new Error('the certificate is not that of an authority that signed itself')
  }
  const parsed = forge.pki.certificateFromPem(certificatePem)
  return {
    pin: keyId(publicKeyDer),
    certificatePem,
    certificate,
    notAfter: new Date(certificate.validTo),
    privateKey,
    issuer: {
      attributes: parsed.subject.attributes,
      keyIdentifier: parsed.generateSubjectKeyIdentifier().getBytes(),
    },
  }
}

/** 16 random bytes with the first bits 01: positive, and never shortened by a leading zero. */
export function newSerial(): string {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes.toString('hex')
}

/** The public key in forge's form. */
export function readForgeKey(publicKeyDer: Uint8Array): forge.pki.rsa.PublicKey {
  return forge.pki.publicKeyFromAsn1(forge.asn1.fromDer(Buffer.from(publicKeyDer).toString('binary')))
}

/** PEM with plain line ends; forge writes those of Windows. */
export function toPem(certificate: forge.pki.Certificate): string {
  return forge.pki.certificateToPem(certificate).replaceAll('\r', '')
}
