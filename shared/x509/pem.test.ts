import { describe, expect, it } from 'vitest'
import { createAuthority } from './authority.ts'
import { certificatesToDer, splitCertificates } from './pem.ts'

describe('splitCertificates', () => {
  it('gives each certificate whole and in order, whatever stands between them', async () => {
    const dates = { notBefore: new Date(0), notAfter: new Date(1e12), bits: 2048 }
    const [a, b] = [
      (await createAuthority(dates)).certificatePem,
      (await createAuthority(dates)).certificatePem,
    ]
    expect(splitCertificates(`# first\n${a}\n\n# second\r\n${b}`)).toEqual([a, b])
    expect(certificatesToDer(a + b)).toHaveLength(2)
    expect(splitCertificates('')).toEqual([])
    expect(() => splitCertificates(a + b, 1)).toThrow('at most 1')
    expect(() => certificatesToDer(a.replace(/\n.{20}/, '\n'))).toThrow()
  })
})
