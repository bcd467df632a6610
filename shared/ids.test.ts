import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isDigest, operationId, randomId, sha256Hex } from './ids.ts'

describe('ids', () => {
  it('of contents are SHA-256 in lower-case hex', () => {
    expect(sha256Hex('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
    fc.assert(fc.property(fc.uint8Array(), bytes => isDigest(sha256Hex(bytes))))
  })

  it.each(['', 'a'.repeat(63), 'a'.repeat(65), 'A'.repeat(64), 'g'.repeat(64), `${'a'.repeat(64)}\n`])(
    'of contents are told from other texts: %j',
    text => expect(isDigest(text)).toBe(false),
  )

  it('that are random do not come twice', () => {
    const made = Array.from({ length: 1_000 }, () => randomId())
    expect(new Set(made).size).toBe(1_000)
    for (const id of made) expect(id).toMatch(/^[0-9a-f]{32}$/)
  })

  it('of operations sort by the time of their order, and are safe as a file name', () => {
    const time = fc.date({ min: new Date(0), max: new Date('3000-01-01'), noInvalidDate: true })
    fc.assert(
      fc.property(time, time, (one, other) => {
        const [a, b] = [operationId(one), operationId(other)]
        expect(a).toMatch(/^[0-9a-z]{9}-[0-9a-f]{12}$/)
        expect(a).not.toBe(b)
        if (one.getTime() !== other.getTime()) expect(a < b).toBe(one < other)
      }),
    )
  })
})
