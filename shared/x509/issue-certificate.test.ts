import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import forge from 'node-forge'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Authority, createAuthority, openAuthority } from './authority.ts'
import { isCertificateName, issueCertificate, prepareCertificate } from './issue-certificate.ts'
import { keyId } from './key-id.ts'
import { type GeneratedKey, generateMachineKey } from './machine-key.ts'
import { readPeerIdentity } from './peer-identity.ts'
import { readRsaPublicKey } from './public-key.ts'

const day = 86_400_000
const notBefore = new Date(Math.floor(Date.now() / 1000) * 1000 - day)
const notAfter = new Date(notBefore.getTime() + 31 * day)

let authority: Authority
let other: Authority
let key: GeneratedKey

beforeAll(async () => {
  const dates = { notBefore, notAfter: new Date(notBefore.getTime() + 3650 * day), bits: 2048 }
  authority = openAuthority(await createAuthority(dates))
  other = openAuthority(await createAuthority(dates))
  key = await generateMachineKey(2048)
})

function issue(kind: 'machine' | 'operator' | 'server', name?: string, by = authority) {
  return issueCertificate({
    authority: by,
    subject: { kind, id: keyId(key.publicKeyDer), ...(name === undefined ? {} : { name }) },
    publicKeyDer: key.publicKeyDer,
    notBefore,
    notAfter,
    sans:
      kind === 'server'
        ? [
            { kind: 'dns', value: 'hub.example' },
            { kind: 'ip', value: '::1' },
          ]
        : [],
  })
}

describe('issueCertificate', () => {
  it('is accepted by OpenSSL as issued by its authority and by no other', () => {
    const certificate = new X509Certificate(issue('machine').certificatePem)
    expect(certificate.checkIssued(authority.certificate)).toBe(true)
    expect(certificate.verify(authority.certificate.publicKey)).toBe(true)
    expect(certificate.checkIssued(other.certificate)).toBe(false)
    expect(certificate.verify(other.certificate.publicKey)).toBe(false)
    expect(new Date(certificate.validFrom)).toEqual(notBefore)
    expect(new Date(certificate.validTo)).toEqual(notAfter)
  })

  it('signs the very bytes that forge itself would sign', async () => {
    const pair = forge.pki.rsa.generateKeyPair({ bits: 1024, workers: 0 })
    const { nativeSigner } = await import('./native-signer.ts')
    const { createPrivateKey } = await import('node:crypto')
    const native = nativeSigner(createPrivateKey(forge.pki.privateKeyToPem(pair.privateKey)))
    const digest = () => forge.md.sha256.create().update('some text')
    expect(native.sign(digest())).toBe(pair.privateKey.sign(digest()))
    expect(() => native.sign(forge.md.sha512.create().update('x'))).toThrow('SHA-256')
  })

  it('signs on another thread what it signs at once', async () => {
    const prepared = prepareCertificate({
      authority,
      subject: { kind: 'machine', id: keyId(key.publicKeyDer) },
      publicKeyDer: key.publicKeyDer,
      notBefore,
      notAfter,
    })
    const signed = await prepared.sign()
    expect(signed).toEqual(prepared.signNow())
    const certificate = new X509Certificate(signed.certificatePem)
    expect(certificate.verify(authority.certificate.publicKey)).toBe(true)
  })

  it('gives each certificate a positive serial number of 16 bytes of its own', () => {
    const serials = Array.from(
      { length: 20 },
      () => new X509Certificate(issue('machine').certificatePem).serialNumber,
    )
    expect(new Set(serials).size).toBe(20)
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/)
  })

  it('never outlives its authority', () => {
    const issued = issueCertificate({
      authority,
      subject: { kind: 'machine', id: keyId(key.publicKeyDer) },
      publicKeyDer: key.publicKeyDer,
      notBefore,
      notAfter: new Date(notBefore.getTime() + 9999 * day),
    })
    expect(issued.notAfter).toEqual(authority.notAfter)
    expect(new X509Certificate(issued.certificatePem).validTo).toBe(authority.certificate.validTo)
  })

  it('refuses an id that is not the hash of the key', () => {
    expect(() =>
      issueCertificate({
        authority,
        subject: { kind: 'machine', id: authority.pin },
        publicKeyDer: key.publicKeyDer,
        notBefore,
        notAfter,
      }),
    ).toThrow('subject.id')
  })

  it('puts a server’s names and addresses into its certificate', () => {
    const certificate = new X509Certificate(issue('server').certificatePem)
    expect(certificate.checkHost('hub.example')).toBe('hub.example')
    expect(certificate.checkIP('::1')).toBe('::1')
    expect(certificate.checkHost('other.example')).toBeUndefined()
  })

  it('takes an authority only whose key and certificate belong together', async () => {
    const mixed = { privateKeyPem: key.privateKeyPem, certificatePem: authority.certificatePem }
    expect(() => openAuthority(mixed)).toThrow('the private key is not that of the certificate')
    const leaf = { privateKeyPem: key.privateKeyPem, certificatePem: issue('machine').certificatePem }
    expect(() => openAuthority(leaf)).toThrow('not that of an authority')
  })
})

describe('readPeerIdentity', () => {
  it('reads back what was issued, for every kind and name', () => {
    const name = fc.string({ minLength: 1, maxLength: 64, unit: 'grapheme' }).filter(isCertificateName)
    fc.assert(
      fc.property(
        fc.constantFrom('machine' as const, 'operator' as const, 'server' as const),
        fc.option(name, { nil: undefined }),
        (kind, name) => {
          const reading = readPeerIdentity(new X509Certificate(issue(kind, name).certificatePem).raw)
          expect(reading).toMatchObject({
            ok: true,
            identity: { kind, id: keyId(key.publicKeyDer), notAfter },
          })
          expect(reading.ok && reading.identity.name).toBe(name)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('is not misled by a name that looks like a subject', () => {
    for (const name of [
      'OU=operator',
      'x, OU=machine',
      'a+CN=b',
      '\\0AOU=operator',
      '"quoted"',
      '#start',
      'a\\,b',
    ]) {
      expect(readPeerIdentity(new X509Certificate(issue('machine', name).certificatePem))).toMatchObject({
        ok: true,
        identity: { kind: 'machine', name },
      })
    }
    expect(() => issue('machine', 'a\nOU=operator')).toThrow('subject.name')
    expect(() => issue('machine', 'right\u202eleft')).toThrow('subject.name')
  })

  it('refuses an authority, rubbish, and a subject that does not fit the key or the purpose', () => {
    expect(readPeerIdentity(authority.certificate)).toMatchObject({ ok: false })
    expect(readPeerIdentity(Buffer.from('rubbish'))).toMatchObject({ ok: false })
    const subject = (kind: string, id: string, purpose: object, twice = false) => {
      const certificate = forge.pki.createCertificate()
      const pem = createPublicKey({ key: key.publicKeyDer, format: 'der', type: 'spki' })
      certificate.publicKey = forge.pki.publicKeyFromPem(
        pem.export({ format: 'pem', type: 'spki' }).toString(),
      )
      certificate.validity.notAfter = notAfter
      certificate.setSubject([
        { shortName: 'O', value: 'Muster' },
        { shortName: 'OU', value: kind },
        ...(twice ? [{ shortName: 'OU', value: 'operator' }] : []),
        { shortName: 'CN', value: id },
      ])
      certificate.setExtensions([{ name: 'extKeyUsage', ...purpose }])
      certificate.sign(forge.pki.privateKeyFromPem(key.privateKeyPem), forge.md.sha256.create())
      return readPeerIdentity(new X509Certificate(forge.pki.certificateToPem(certificate)))
    }
    const id = keyId(key.publicKeyDer)
    expect(subject('machine', id, { clientAuth: true })).toMatchObject({ ok: true })
    expect(subject('machine', other.pin, { clientAuth: true })).toMatchObject({ ok: false })
    expect(subject('machine', id.toUpperCase(), { clientAuth: true })).toMatchObject({ ok: false })
    expect(subject('machine', id, { serverAuth: true })).toMatchObject({ ok: false })
    expect(subject('machine', id, { clientAuth: true, serverAuth: true })).toMatchObject({ ok: false })
    expect(subject('server', id, { clientAuth: true })).toMatchObject({ ok: false })
    expect(subject('admin', id, { clientAuth: true })).toMatchObject({ ok: false })
    expect(subject('constructor', id, { clientAuth: true })).toMatchObject({ ok: false })
    expect(subject('machine', id, { clientAuth: true }, true)).toMatchObject({ ok: false })
  })
})

describe('readRsaPublicKey', () => {
  it('reads one key once, by its very bytes', () => {
    const first = readRsaPublicKey(key.publicKeyDer)
    expect(readRsaPublicKey(Buffer.from(key.publicKeyDer))).toBe(first)
    expect(readRsaPublicKey(Buffer.concat([key.publicKeyDer, Buffer.from([0])]))).toMatchObject({ ok: false })
    expect(readRsaPublicKey(key.publicKeyDer)).toBe(first)
  })

  it('takes a machine’s key and names what is wrong with another', () => {
    expect(readRsaPublicKey(key.publicKeyDer)).toMatchObject({ ok: true })
    const der = (key: KeyObject) => key.export({ type: 'spki', format: 'der' })
    const weak = der(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey)
    const odd = der(generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).publicKey)
    const curve = der(generateKeyPairSync('ed25519').publicKey)
    expect(readRsaPublicKey(weak)).toMatchObject({ ok: false, reason: expect.stringContaining('1024 bits') })
    expect(readRsaPublicKey(odd)).toMatchObject({ ok: false, reason: expect.stringContaining('exponent 3') })
    expect(readRsaPublicKey(curve)).toMatchObject({ ok: false, reason: expect.stringContaining('ed25519') })
    expect(readRsaPublicKey(Buffer.alloc(0))).toMatchObject({ ok: false })
    expect(readRsaPublicKey(Buffer.alloc(4096))).toMatchObject({ ok: false })
  })

  it('refuses a second encoding of one key, which would be a second id', () => {
    expect(readRsaPublicKey(Buffer.concat([key.publicKeyDer, Buffer.from([0])]))).toMatchObject({ ok: false })
  })
})
