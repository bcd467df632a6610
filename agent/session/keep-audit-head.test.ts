import fc from 'fast-check'
import { expect, it } from 'vitest'
import { thinned } from './keep-audit-head.ts'

it('keeps the first link, the newest ones, and some of every age between, and never more than 32', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 400 }), steps => {
      let heads: readonly { id: number; hash: string }[] = []
      let id = 0
      const shown: number[] = []
      for (const step of steps) {
        id += step
        shown.push(id)
        heads = thinned([...heads, { id, hash: '' }])
        expect(heads.length).toBeLessThanOrEqual(32)
      }
      const kept = heads.map(head => head.id)
      expect(kept).toEqual(kept.toSorted((a, b) => a - b))
      expect(kept[0]).toBe(shown[0])
      expect(kept.slice(-8)).toEqual(shown.slice(-8))
    }),
  )
})

it('leaves no gap in what was shown that is long for its age', () => {
  let heads: readonly { id: number; hash: string }[] = []
  for (let id = 1; id <= 2_000; id++) heads = thinned([...heads, { id, hash: '' }])
  for (const [index, { id }] of heads.entries()) {
    const next = heads[index + 1]
    if (next) expect(next.id - id).toBeLessThanOrEqual(Math.max(1, 0.8 * (2_000 - id)))
  }
})
