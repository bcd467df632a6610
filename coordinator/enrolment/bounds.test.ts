import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Nonces } from './nonces.ts'
import { Throttle } from './throttle.ts'
import { isSecret, makeToken } from './token-secret.ts'

describe('Nonces', () => {
  it('serve once, and only those that were given out', () => {
    const nonces = new Nonces()
    const nonce = nonces.issue(0)
    expect(nonces.take(nonce, 1)).toBe(true)
    expect(nonces.take(nonce, 1)).toBe(false)
    expect(nonces.take(Buffer.alloc(32), 1)).toBe(false)
  })

  it('are not pushed out by a flood of strangers who begin, and cost no memory until they are used', () => {
    const nonces = new Nonces()
    const first = nonces.issue(0)
    for (let i = 0; i < 20_000; i++) nonces.issue(1)
    expect(nonces.size).toBe(0)
    expect(nonces.take(first, 1)).toBe(true)
    expect(nonces.size).toBe(1)
  })

  it('are too old after five minutes, and what was used is forgotten then and not before', () => {
    const nonces = new Nonces()
    const late = nonces.issue(0)
    expect(nonces.take(late, 5 * 60_000)).toBe(false)
    const early = nonces.issue(1_000)
    expect(nonces.take(early, 2_000)).toBe(true)
    expect(nonces.take(early, 300_999)).toBe(false)
    expect(nonces.take(nonces.issue(900_000), 900_001)).toBe(true)
    expect(nonces.size).toBe(1)
  })

  it('are good as they were given out and in no other form, nor to another process', () => {
    fc.assert(
      fc.property(fc.nat({ max: 255 }), fc.integer({ min: 1, max: 255 }), (bit, change) => {
        const nonces = new Nonces()
        const nonce = nonces.issue(10)
        expect(new Nonces().take(nonce, 11)).toBe(false)
        const forged = Buffer.from(nonce)
        forged[bit % 32]! ^= change
        expect(nonces.take(forged, 11)).toBe(false)
        expect(nonces.take(Buffer.concat([nonce, Buffer.alloc(1)]), 11)).toBe(false)
        expect(nonces.take(nonce, 11)).toBe(true)
      }),
    )
  })
})

describe('Throttle', () => {
  it('never lets more through than its burst and its rate allow, in any order of times', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 200 }), steps => {
        const throttle = new Throttle(10, 20)
        let nowMs = 0
        let passed = 0
        for (const step of steps) {
          nowMs += step
          if (throttle.take(nowMs) === 0) passed++
        }
        expect(passed).toBeLessThanOrEqual(20 + (nowMs / 1000) * 10 + 1e-6)
      }),
    )
  })

  it('tells when the next request will pass', () => {
    const throttle = new Throttle(1, 1)
    expect(throttle.take(0)).toBe(0)
    const seconds = throttle.take(0)
    expect(seconds).toBe(1)
    expect(throttle.take(seconds * 1000)).toBe(0)
  })
})

describe('the secret of a token', () => {
  it('is right only as it is, and never for a token that does not exist', () => {
    const { secret, secretHash } = makeToken()
    expect(isSecret(secret, secretHash)).toBe(true)
    expect(isSecret(`${secret}x`, secretHash)).toBe(false)
    expect(isSecret('', secretHash)).toBe(false)
    expect(isSecret(secret, undefined)).toBe(false)
    expect(isSecret(secret, '00'.repeat(32))).toBe(false)
  })

  it('T66: and everything else that is random comes from the system, never from Math.random', () => {
    const root = resolve(import.meta.dirname, '../..')
    const found = ['shared', 'coordinator', 'agent', 'cli'].flatMap(part => sourcesOf(join(root, part)))
    expect(found.length).toBeGreaterThan(50)
    const weak = /Math\s*\.\s*random|pseudoRandomBytes/
    expect(found.filter(path => weak.test(readFileSync(path, 'utf8')))).toEqual([])
  })
})

function sourcesOf(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts') && !name.endsWith('.test.ts') && !name.includes('gen/'))
      .map(name => join(folder, name))
  } catch {
    return [] // a part that does not exist yet draws nothing
  }
}
