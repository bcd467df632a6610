import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { backoffMs, jittered } from './retry.ts'

const bounds = fc
  .tuple(fc.integer({ min: 2, max: 60_000 }), fc.integer({ min: 0, max: 600_000 }))
  .map(([firstMs, more]) => ({ firstMs, mostMs: firstMs + more }))

describe('the wait before another try', () => {
  it('is never over its bound nor under half of what the try has coming, whatever chance says', () => {
    fc.assert(
      fc.property(
        bounds,
        fc.nat(2_000),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (options, attempt, chance) => {
          const wait = backoffMs(attempt, options, below => Math.floor(chance * below))
          const ceiling = Math.min(options.mostMs, options.firstMs * 2 ** attempt)
          expect(Number.isSafeInteger(wait)).toBe(true)
          expect(wait).toBeLessThanOrEqual(ceiling)
          expect(wait).toBeGreaterThanOrEqual(Math.floor(ceiling / 2))
        },
      ),
    )
  })

  it('grows until its bound when chance is the same', () => {
    const waits = [0, 1, 2, 3, 4, 5, 50].map(attempt =>
      backoffMs(attempt, { firstMs: 100, mostMs: 1_000 }, () => 0),
    )
    expect(waits).toEqual([50, 100, 200, 400, 500, 500, 500])
  })

  it('differs between those who wait, so that a fleet does not come back in step', () => {
    const waits = Array.from({ length: 200 }, () => backoffMs(5, { firstMs: 1_000, mostMs: 60_000 }))
    expect(new Set(waits).size).toBeGreaterThan(100)
  })
})

describe('a spread value', () => {
  it('stays within its share on both sides', () => {
    fc.assert(
      fc.property(fc.integer({ min: 10, max: 3_600_000 }), fc.constantFrom(0.1, 0.2, 0.5), (ms, share) => {
        const value = jittered(ms, share)
        expect(Number.isSafeInteger(value)).toBe(true)
        expect(Math.abs(value - ms)).toBeLessThanOrEqual(ms * share)
      }),
    )
    expect(new Set(Array.from({ length: 100 }, () => jittered(10_000))).size).toBeGreaterThan(50)
  })
})
