import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { newlyFailed } from './newly-failed.ts'

const units = fc.uniqueArray(
  fc.constantFrom<string>('a.service', 'b.service', 'c.timer', 'd.mount', 'e.service'),
)

describe('newlyFailed', () => {
  it('blames what failed since, and nothing that was broken before or may break', () => {
    const before = new Set(['old.service'])
    const after = new Set(['web.service', 'old.service', 'backup.service', 'api.service'])
    expect(newlyFailed(before, after, ['backup.service', 'never.service'])).toEqual({
      blamed: ['api.service', 'web.service'],
      tolerated: ['backup.service'],
    })
  })

  it('puts each newly failed unit into one of two lists, and no other anywhere', () => {
    fc.assert(
      fc.property(units, units, units, (before, after, tolerated) => {
        const { blamed, tolerated: degraded } = newlyFailed(new Set(before), new Set(after), tolerated)
        expect([...blamed, ...degraded].sort()).toEqual(after.filter(unit => !before.includes(unit)).sort())
        expect(blamed.some(unit => tolerated.includes(unit))).toBe(false)
        expect(degraded.every(unit => tolerated.includes(unit))).toBe(true)
      }),
    )
  })
})
