import { X509Certificate } from 'node:crypto'
import forge from 'node-forge'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Authority, createAuthority, openAuthority } from './authority.ts'
import { templateOf } from './certificate-template.ts'
import { issueCertificate } from './issue-certificate.ts'
import { keyId } from './key-id.ts'
import { type GeneratedKey, generateMachineKey } from './machine-key.ts'
import { bytesToSign } from './native-signer.ts'
import { readPeerIdentity } from './peer-identity.ts'

const DAY_MS = 86_400_000
const start = new Date('2027-01-01T00:00:00Z')
let authority: Authority
let keys: GeneratedKey[]

beforeAll(async () => {
  const notAfter = new Date(start.getTime() + 20_000 * DAY_MS)
  authority = openAuthority(await createAuthority({ notBefore: start, notAfter, bits: 2048 }))
  keys = await Promise.all([2048, 2048, 2048, 3072, 3072].map(bits => generateMachineKey(bits)))
})

const issue = ({ publicKeyDer }: GeneratedKey, days: number) =>
  issueCertificate({
    authority,
    subject: { kind: 'machine', id: keyId(publicKeyDer) },
    publicKeyDer,
    notBefore: new Date(start.getTime() + days * DAY_MS),
    notAfter: new Date(start.getTime() + (days + 30) * DAY_MS),
  })

/** What is signed, as it stands in the certificate and as forge writes what it reads there. */
function signedPart(pem: string) {
  const written = bytesToSign(forge.pki.certificateFromPem(pem))
  const raw = new X509Certificate(pem).raw
  const at = 4
  return { written, signed: raw.subarray(at, at + written.length) }
}

describe('the certificates of one authority', () => {
  it('say each what is its own, and are what forge would write', () => {
    const serials = new Set<string>()
    for (const [index, key] of [...keys, ...keys].entries()) {
      const { certificatePem, serial, notAfter } = issue(key, index)
      const certificate = new X509Certificate(certificatePem)
      expect(certificate.checkIssued(authority.certificate)).toBe(true)
      expect(certificate.verify(authority.certificate.publicKey)).toBe(true)
      expect(certificate.serialNumber.toLowerCase()).toBe(serial)
      expect(certificate.publicKey.export({ format: 'der', type: 'spki' })).toEqual(key.publicKeyDer)
      expect(readPeerIdentity(certificate)).toMatchObject({
        ok: true,
        identity: {
          kind: 'machine',
          id: keyId(key.publicKeyDer),
          notBefore: new Date(start.getTime() + index * DAY_MS),
          notAfter,
        },
      })
      const { signed, written } = signedPart(certificatePem)
      expect(signed).toEqual(written)
      const forged = forge.pki.certificateFromPem(certificatePem)
      const identifier = forged.generateSubjectKeyIdentifier().toHex()
      expect(forged.getExtension('subjectKeyIdentifier')).toMatchObject({ subjectKeyIdentifier: identifier })
      serials.add(serial)
    }
    expect(serials.size).toBe(10)
  })

  it('have the other form of dates from 2050 on', () => {
    // The last day of UTCTime, and days after it.
    for (const days of [1, 8_370, 9_000, 2]) {
      const certificate = new X509Certificate(issue(keys[0]!, days).certificatePem)
      expect(new Date(certificate.validTo)).toEqual(new Date(start.getTime() + (days + 30) * DAY_MS))
      expect(certificate.verify(authority.certificate.publicKey)).toBe(true)
    }
  })
})

describe('a template', () => {
  const individual = (byte: number, length = 294) => ({
    serial: Buffer.alloc(16, byte).toString('hex'),
    notBefore: start,
    notAfter: new Date(start.getTime() + byte * DAY_MS),
    id: `${byte % 10}`.repeat(64),
    publicKeyDer: Buffer.alloc(length, byte + 100),
  })

  it('is not made where a part is not found exactly once', () => {
    const { publicKeyDer, id, serial } = individual(7)
    expect(templateOf(Buffer.concat([publicKeyDer, Buffer.from(id)]), individual(7))).toBeUndefined()
    const twice = Buffer.concat([Buffer.from(serial, 'hex'), publicKeyDer, Buffer.from(serial, 'hex')])
    expect(templateOf(twice, individual(7))).toBeUndefined()
  })
})
