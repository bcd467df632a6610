import { X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Authority, createAuthority, openAuthority } from './authority.ts'
import { issueCertificate } from './issue-certificate.ts'
import { keyId } from './key-id.ts'
import { type GeneratedKey, generateMachineKey } from './machine-key.ts'
import { certificatesToDer } from './pem.ts'
import { verifyPinnedChain } from './pinned-chain.ts'

const day = 86_400_000
const now = new Date()
const notBefore = new Date(now.getTime() - day)
const notAfter = new Date(now.getTime() + 30 * day)

let authority: Authority
let other: Authority
let key: GeneratedKey

beforeAll(async () => {
  const dates = { notBefore, notAfter: new Date(now.getTime() + 3650 * day), bits: 2048 }
  authority = openAuthority(await createAuthority(dates))
  other = openAuthority(await createAuthority(dates))
  key = await generateMachineKey(2048)
})

function chain(kind: 'server' | 'machine' = 'server', by = authority): Buffer[] {
  const subject = { kind, id: keyId(key.publicKeyDer) }
  const sans = [
    { kind: 'dns' as const, value: 'hub.example' },
    { kind: 'ip' as const, value: '10.0.0.1' },
    { kind: 'ip' as const, value: '::1' },
  ]
  const { publicKeyDer } = key
  return certificatesToDer(
    issueCertificate({ authority: by, subject, publicKeyDer, notBefore, notAfter, sans }).chainPem,
  )
}

describe('verifyPinnedChain', () => {
  it('gives the pinned authority for a good chain, also in brackets and among several pins', () => {
    for (const host of [undefined, 'hub.example', '10.0.0.1', '::1', '[::1]']) {
      const result = verifyPinnedChain(chain(), [other.pin, authority.pin], host, now)
      expect(result).toMatchObject({ ok: true, pin: authority.pin })
      if (result.ok) expect(new X509Certificate(result.caPem).raw).toEqual(authority.certificate.raw)
    }
  })

  it('refuses an authority that is not pinned, however good its chain', () => {
    expect(verifyPinnedChain(chain('server', other), authority.pin, undefined, now)).toMatchObject({
      fault: 'pin',
    })
  })

  it('refuses the pinned authority beside a certificate that it did not issue', () => {
    const [leaf] = chain('server', other)
    const forged = [leaf ?? Buffer.alloc(0), authority.certificate.raw]
    expect(verifyPinnedChain(forged, authority.pin, undefined, now)).toMatchObject({ fault: 'chain' })
  })

  it('refuses a machine’s certificate and the authority’s own in the place of a server’s', () => {
    expect(verifyPinnedChain(chain('machine'), authority.pin, undefined, now)).toMatchObject({
      fault: 'chain',
    })
    const alone = [authority.certificate.raw, authority.certificate.raw]
    expect(verifyPinnedChain(alone, authority.pin, undefined, now)).toMatchObject({ fault: 'chain' })
  })

  it('refuses a leaf that carries the pinned key itself', () => {
    const [leaf] = chain('server', other)
    const chainOfLeaves = [leaf ?? Buffer.alloc(0), leaf ?? Buffer.alloc(0)]
    expect(verifyPinnedChain(chainOfLeaves, keyId(key.publicKeyDer), undefined, now)).toMatchObject({
      fault: 'chain',
    })
  })

  it('refuses another host than the one dialled', () => {
    for (const host of ['other.example', '10.0.0.2', '::2', '']) {
      expect(verifyPinnedChain(chain(), authority.pin, host, now)).toMatchObject({ fault: 'host' })
    }
  })

  it('names a clock outside the dates, and only for a chain that is otherwise genuine', () => {
    const early = new Date(notBefore.getTime() - day)
    const late = new Date(notAfter.getTime() + day)
    for (const wrong of [early, late, new Date(Number.NaN)]) {
      expect(verifyPinnedChain(chain(), authority.pin, 'hub.example', wrong)).toMatchObject({
        fault: 'clock',
      })
      expect(verifyPinnedChain(chain('server', other), authority.pin, 'hub.example', wrong)).toMatchObject({
        fault: 'pin',
      })
    }
  })

  it('refuses a chain that is missing, short, long or rubbish, and a pin that is none', () => {
    const [leaf = Buffer.alloc(0), ca = Buffer.alloc(0)] = chain()
    for (const bad of [
      [],
      [leaf],
      [leaf, Buffer.from('x')],
      [leaf, ca, ca, ca, ca],
      [Buffer.alloc(20_000), ca],
    ]) {
      expect(verifyPinnedChain(bad, authority.pin, undefined, now)).toMatchObject({ fault: 'malformed' })
    }
    for (const pin of ['', 'x', authority.pin.toUpperCase(), []]) {
      expect(verifyPinnedChain([leaf, ca], pin, undefined, now)).toMatchObject({ fault: 'pin' })
    }
  })

  it('never verifies a chain with any bit changed, anything cut off or anything added', () => {
    const good = chain()
    expect(verifyPinnedChain(good, authority.pin, 'hub.example', now)).toMatchObject({ ok: true })
    fc.assert(
      fc.property(
        fc.nat({ max: 1 }),
        fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
        fc.oneof(
          fc.record({ what: fc.constant('flip' as const), bit: fc.nat({ max: 7 }) }),
          fc.record({ what: fc.constant('cut' as const) }),
          fc.record({
            what: fc.constant('add' as const),
            bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }),
          }),
        ),
        (which, where, change) => {
          const original = good[which] ?? Buffer.alloc(0)
          const at = Math.floor(where * original.length)
          let bytes = Buffer.from(original)
          if (change.what === 'flip') bytes[at] = (bytes[at] ?? 0) ^ (1 << change.bit)
          else if (change.what === 'cut') bytes = bytes.subarray(0, at)
          else bytes = Buffer.concat([bytes, change.bytes])
          const tampered = good.map((der, index) => (index === which ? bytes : der))
          expect(verifyPinnedChain(tampered, authority.pin, 'hub.example', now).ok).toBe(false)
        },
      ),
      { numRuns: 3000 },
    )
  })
})
