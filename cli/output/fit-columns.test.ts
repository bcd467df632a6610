import fc from 'fast-check'
import { expect, it } from 'vitest'
import { fitColumns, GAP } from './fit-columns.ts'

const fixed = (width: number) => ({ width, wraps: false })
const wraps = (width: number) => ({ width, wraps: true })

it('leaves what has room as it is', () => {
  expect(fitColumns([fixed(10), wraps(20), fixed(5)], 100)).toEqual([10, 20, 5])
})

it('cuts at the end of the line, and drops what begins behind it', () => {
  expect(fitColumns([fixed(10), fixed(80)], 60)).toEqual([10, 48])
  expect(fitColumns([fixed(40), fixed(40), fixed(40)], 60)).toEqual([40, 18, 0])
})

it('shares the rest among columns that wrap, and a short one gives what it does not need', () => {
  expect(fitColumns([fixed(10), wraps(300), wraps(300)], 80)).toEqual([10, 33, 33])
  expect(fitColumns([fixed(10), wraps(300), wraps(20)], 80)).toEqual([10, 46, 20])
})

it('leaves out what stands behind the first column that wraps, before one that wraps is too narrow', () => {
  expect(fitColumns([wraps(12), fixed(12), wraps(8), fixed(30), wraps(200)], 60)).toEqual([12, 12, 8, 0, 20])
  // The first that have room stay; what names the row stays always.
  expect(fitColumns([fixed(12), wraps(8), fixed(30), fixed(6), wraps(200)], 60)).toEqual([12, 8, 0, 6, 26])
  expect(fitColumns([fixed(30), wraps(16), fixed(5)], 40)).toEqual([30, 8, 0])
})

it('makes no column that wraps narrower than 16 where leaving out others helps', () => {
  const column = fc.record({ width: fc.integer({ min: 1, max: 60 }), wraps: fc.boolean() })
  fc.assert(
    fc.property(fc.array(column, { maxLength: 7 }), fc.integer({ min: 60, max: 250 }), (others, room) => {
      const wanted = [wraps(12), ...others.slice(0, 6)]
      const least = wanted.reduce((sum, { width, wraps }) => sum + (wraps ? Math.min(width, 16) : 0), 0)
      fc.pre(least + GAP * (wanted.length - 1) <= room)
      const widths = fitColumns(wanted, room)
      for (const [index, { width, wraps }] of wanted.entries()) {
        if (wraps) expect(widths[index]).toBeGreaterThanOrEqual(Math.min(width, 16))
        else expect([0, width]).toContain(widths[index])
      }
    }),
  )
})

it('never takes more room than there is, nor more than is wanted', () => {
  const column = fc.record({ width: fc.nat(400), wraps: fc.boolean() })
  fc.assert(
    fc.property(
      fc.array(column, { minLength: 1, maxLength: 9 }),
      fc.integer({ min: 1, max: 250 }),
      (wanted, room) => {
        const widths = fitColumns(wanted, room)
        const shown = widths.filter(width => width > 0)
        const last = widths.findLastIndex(width => width > 0)
        const before = widths.slice(0, last).reduce((sum, width) => sum + width + GAP, 0)
        if (shown.length > 0) expect(before + (widths[last] ?? 0)).toBeLessThanOrEqual(room)
        for (const [index, { width }] of wanted.entries()) expect(widths[index]).toBeLessThanOrEqual(width)
      },
    ),
  )
})
