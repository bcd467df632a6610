import fc from 'fast-check'
import { expect, it } from 'vitest'
import { fitColumns, GAP } from './fit-columns.ts'

const fixed = (width: number) => ({ width, wraps: false })
const wraps = (width: number) => ({ width, wraps: true })
const names = (width: number) => ({ width, wraps: true, names: true })

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
  expect(fitColumns([wraps(12), fixed(12), wraps(8), fixed(30), wraps(200)], 60)).toEqual([12, 12, 8, 0, 22])
  // The first that have room stay; what names the row stays always.
  expect(fitColumns([fixed(12), wraps(8), fixed(30), fixed(6), wraps(200)], 60)).toEqual([12, 8, 0, 6, 28])
})

it('gives one that wraps lines below the row where it would be too narrow, and others the room', () => {
  expect(fitColumns([fixed(30), wraps(16), fixed(5)], 40)).toEqual([30, 'below', 5])
  expect(fitColumns([fixed(22), wraps(11), fixed(6), wraps(11), wraps(56)], 60)).toEqual([
    22,
    11,
    6,
    11,
    'below',
  ])
  // The widest goes first, and what the row is about last.
  expect(fitColumns([fixed(20), wraps(30), wraps(14), wraps(40)], 60)).toEqual([20, 22, 14, 'below'])
  expect(fitColumns([fixed(20), wraps(30), wraps(14), wraps(40)], 40)).toEqual([20, 18, 'below', 'below'])
  expect(fitColumns([fixed(50), wraps(30), wraps(14)], 60)).toEqual([50, 'below', 'below'])
  expect(fitColumns([wraps(300), wraps(300)], 20)).toEqual([20, 'below'])
})

it('breaks no name that has room on a line', () => {
  expect(fitColumns([names(30), wraps(100)], 60)).toEqual([30, 28])
  expect(fitColumns([names(45), wraps(100)], 60)).toEqual([45, 'below'])
  expect(fitColumns([fixed(20), names(45), wraps(100)], 60)).toEqual([20, 'below', 'below'])
})

const column = fc.record({
  width: fc.integer({ min: 1, max: 400 }),
  wraps: fc.boolean(),
  names: fc.boolean(),
})
const columns = fc.array(column, { minLength: 1, maxLength: 9 })
const terminal = fc.integer({ min: 1, max: 250 })

it('shows each column that wraps readably, in the row or below it', () => {
  fc.assert(
    fc.property(columns, terminal, (wanted, room) => {
      for (const [index, place] of fitColumns(wanted, room).entries()) {
        const { width = 0, wraps: mayWrap, names: unbroken } = wanted[index] ?? {}
        if (!mayWrap) expect(place).not.toBe('below')
        else if (place !== 'below') {
          const least = unbroken ? width : Math.min(width, 16)
          expect(place).toBeGreaterThanOrEqual(Math.min(least, room))
        }
      }
    }),
  )
})

it('never takes more room than there is, nor more than is wanted', () => {
  fc.assert(
    fc.property(columns, terminal, (wanted, room) => {
      const places = fitColumns(wanted, room)
      const widths = places.filter(place => place !== 'below').filter(width => width > 0)
      expect(widths.length).toBeGreaterThan(0)
      expect(widths.reduce((sum, width) => sum + width + GAP, -GAP)).toBeLessThanOrEqual(room)
      for (const [index, { width }] of wanted.entries()) {
        const place = places[index]
        if (place !== 'below') expect(place).toBeLessThanOrEqual(width)
      }
    }),
  )
})
