import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { AUTHORITY_PEM } from '../testing/driver-fixture.ts'
import { authorityHash, pinned, readK3sToken, writeK3sToken } from './k3s-token.ts'

/** A root and an authority that it signed, for tests; their keys are in no file. */
const ROOT = `-----BEGIN CERTIFICATE-----
MIIBijCCAS+gAwIBAgIUd/HfO4N+Eh9w8FWn4P+WnC4TyXUwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOcm9vdCAobWFkZSB1cCkwIBcNMjYxMTMwMDczMjAzWhgPMjEy
NjExMDYwNzMyMDNaMBkxFzAVBgNVBAMMDnJvb3QgKG1hZGUgdXApMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEX09kWARG8HxZM3nAE0+p7zP/feyliyBnWlAgX6wb
8Su4TmjD8NCP8BW01xtIre4bCh6bC62z7+RuwWTxY7jQm6NTMFEwHQYDVR0OBBYE
FG6p4XYlH4j4zAbH6Yty1csR1iLwMB8GA1UdIwQYMBaAFG6p4XYlH4j4zAbH6Yty
1csR1iLwMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhANa/hIOt
oBA+Xwy+yQoNOgh8FSaTCDTOhFb1Xw40T5MjAiEArdT/eWonR6jaBnXLqniBJUTG
wCc4n5LD6g/nu8LYmag=
-----END CERTIFICATE-----
`
const SIGNED = `-----BEGIN CERTIFICATE-----
MIIBkzCCATigAwIBAgIUHpeYbknXqYihAyQQdM5jeDj35ywwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOcm9vdCAobWFkZSB1cCkwIBcNMjYxMTMwMDczMjAzWhgPMjEy
NjExMDYwNzMyMDNaMCIxIDAeBgNVBAMMF2szcy1zZXJ2ZXItY2EgKG1hZGUgdXAp
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE49EPYIx9FAtK8UhkjvddQMYZzpPC
Il4CbhSf8/4dHi0pSmg1MB1wpEffRzhPpVznIDDqeH1KjF+3JsAA5oBygqNTMFEw
DwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUL+5SpBfrm6KxEcJdO0hJ7Z58F20w
HwYDVR0jBBgwFoAUbqnhdiUfiPjMBsfpi3LVyxHWIvAwCgYIKoZIzj0EAwIDSQAw
RgIhANyB0wzWLFaIKPhh6H6z/X+c8Bw1rlXs9NsL8rWSPCTuAiEA8Vm4n0Q1u3xF
S2XTNonc04rYpfpTmGUk4xOIaJLjhdQ=
-----END CERTIFICATE-----
`
const ROOT_HASH = 'b52fac91e33a7ee02f0f3e6ba4d61f104affeff7fad552396b3f641a18ce2f5e'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

describe('what a token of k3s pins', () => {
  it('is the file of an authority, byte for byte', () => {
    expect(authorityHash(Buffer.from(AUTHORITY_PEM))).toBe(sha256(AUTHORITY_PEM))
  })

  it('Q5: is the root of an authority that was signed by another, whatever else lies in the file', () => {
    for (const text of [SIGNED + ROOT, SIGNED + SIGNED + ROOT, `${SIGNED}\n${AUTHORITY_PEM}${ROOT}`])
      expect(authorityHash(Buffer.from(text))).toBe(ROOT_HASH)
    expect(writeK3sToken(pinned('server:pw', Buffer.from(SIGNED + ROOT)))).toBe(`K10${ROOT_HASH}::server:pw`)
  })

  it('is the file where nothing in it ends the chain, or it holds no certificate', () => {
    for (const text of [SIGNED, SIGNED + AUTHORITY_PEM, 'nothing'])
      expect(authorityHash(Buffer.from(text))).toBe(sha256(text))
  })

  it('is left as it is in a token that pins one already', () => {
    const token = `K10${sha256('another')}::abcdef.0123456789abcdef`
    expect(pinned(token, Buffer.from(AUTHORITY_PEM))).toEqual(readK3sToken(token))
  })
})
