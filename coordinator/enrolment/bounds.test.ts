import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Nonces } from './nonces.ts'
import { Throttle } from './throttle.ts'
import { isSecret, makeToken } from './token-secret.ts'

/** Nonces under a time that the test sets. */
function noncesAt(startMs = 0) {
  let uptimeMs = startMs
  const nonces = new Nonces(() => uptimeMs)
  const at = (ms: number) => {
    uptimeMs = ms
    return nonces
  }
  return { nonces, at }
}

describe('Nonces', () => {
  it('serve once, and only those that were given out', () => {
    const { nonces } = noncesAt()
    const nonce = nonces.issue()
    expect(nonces.judge(nonce)).toBe('good')
    expect(nonces.take(nonce)).toBe('good')
    expect(nonces.judge(nonce)).toBe('used')
    expect(nonces.take(nonce)).toBe('used')
    expect(nonces.take(Buffer.alloc(32))).toBe('unknown')
  })

  it('are not pushed out by a flood of strangers who begin, and cost no memory until they are used', () => {
    const { nonces, at } = noncesAt()
    const first = nonces.issue()
    for (let i = 0; i < 20_000; i++) at(1).issue()
    expect(nonces.size).toBe(0)
    expect(nonces.take(first)).toBe('good')
    expect(nonces.size).toBe(1)
  })

  it('are too old after five minutes, and what was used is forgotten then and not before', () => {
    const { nonces, at } = noncesAt()
    const late = nonces.issue()
    expect(at(5 * 60_000).take(late)).toBe('unknown')
    const early = at(600_000).issue()
    expect(at(601_000).take(early)).toBe('good')
    expect(at(899_999).take(early)).toBe('used')
    expect(at(900_000).take(early)).toBe('unknown')
    expect(at(901_001).take(nonces.issue())).toBe('good')
    expect(nonces.size).toBe(1)
  })

  it('are good as they were given out and in no other form, nor to another process', () => {
    fc.assert(
      fc.property(fc.nat({ max: 255 }), fc.integer({ min: 1, max: 255 }), (bit, change) => {
        const nonces = new Nonces()
        const nonce = nonces.issue()
        expect(new Nonces().take(nonce)).toBe('unknown')
        const forged = Buffer.from(nonce)
        forged[bit % 32]! ^= change
        expect(nonces.take(forged)).toBe('unknown')
        expect(nonces.take(Buffer.concat([nonce, Buffer.alloc(1)]))).toBe('unknown')
        expect(nonces.take(nonce)).toBe('good')
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
