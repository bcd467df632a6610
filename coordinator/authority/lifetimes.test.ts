import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { completeLifetimes, DEFAULT_LIFETIMES, MAX_OPERATOR_MS, renewalTime } from './lifetimes.ts'

describe('completeLifetimes', () => {
  it('fills in 30 days for machines and 90 for operators, and takes seconds for tests', () => {
    const day = 86_400_000
    expect(completeLifetimes({})).toMatchObject({ machineMs: 30 * day, operatorMs: 90 * day })
    expect(completeLifetimes({ machineMs: 2000 })).toEqual({ ...DEFAULT_LIFETIMES, machineMs: 2000 })
  })

  it('refuses what no certificate can have, and an operator’s beyond 366 days', () => {
    for (const machineMs of [0, 999, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => completeLifetimes({ machineMs })).toThrow('lifetimes.machineMs')
    }
    expect(() => completeLifetimes({ operatorMs: MAX_OPERATOR_MS + 1 })).toThrow('lifetimes.operatorMs')
  })
})

describe('renewalTime', () => {
  it('lies between making and end for any life of a second or more, and never at once', () => {
    const instant = fc.integer({ min: 0, max: 4e12 })
    fc.assert(
      fc.property(instant, fc.integer({ min: -1e12, max: 1e12 }), (made, lifeMs) => {
        const renewAt = renewalTime(new Date(made), new Date(made + lifeMs)).getTime()
        expect(renewAt).toBeGreaterThanOrEqual(made + 500)
        if (lifeMs >= 1000) expect(renewAt).toBeLessThan(made + lifeMs)
      }),
    )
  })
})
