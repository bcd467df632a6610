import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { median, percentile } from './statistics.ts'

const numbers = fc.array(fc.integer({ min: -1e6, max: 1e6 }), { minLength: 1, maxLength: 300 })

describe('the statistics of the benchmark', () => {
  it('finds the middle, and between two the mean', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(median([7])).toBe(7)
  })

  it('takes the nearest rank for a percentile', () => {
    const hundred = Array.from({ length: 100 }, (_, index) => index + 1)
    expect(percentile(hundred, 99)).toBe(99)
    expect(percentile([...hundred, ...hundred.map(value => value + 100)], 99)).toBe(198)
    expect(percentile([5, 9], 50)).toBe(5)
    expect(percentile([5, 9], 99)).toBe(9)
  })

  it('gives a percentile that was measured, with as many values below it as asked', () => {
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 100 }), (values, percent) => {
        const found = percentile(values, percent)
        expect(values).toContain(found)
        const notAbove = values.filter(value => value <= found).length
        const below = values.filter(value => value < found).length
        expect(notAbove * 100).toBeGreaterThanOrEqual(percent * values.length)
        expect(below * 100).toBeLessThan(percent * values.length)
      }),
    )
  })

  it('gives a median with half of the values on either side', () => {
    fc.assert(
      fc.property(numbers, values => {
        const middle = median(values)
        expect(values.filter(value => value < middle).length * 2).toBeLessThanOrEqual(values.length)
        expect(values.filter(value => value > middle).length * 2).toBeLessThanOrEqual(values.length)
      }),
    )
  })

  it('has no answer for no values', () => {
    expect(() => median([])).toThrow('no values')
    expect(() => percentile([], 99)).toThrow('no values')
    expect(() => percentile([1], 0)).toThrow('not within')
  })
})
