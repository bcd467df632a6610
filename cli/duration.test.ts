import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatBytes, formatDuration, parseDuration } from './duration.ts'

describe('parseDuration', () => {
  it.each([
    ['90s', 90_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['90d', 7_776_000_000],
    ['2w', 1_209_600_000],
  ])('reads %s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })

  it.each(['', '5', 'm', '-5m', '1.5h', '5 m', '5y', '0s', '999999999w', '5m!'])('refuses %j', text => {
    expect(parseDuration(text)).toBeUndefined()
  })

  it('reads what was written from whole seconds below a minute up to whole hours', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 59 }), fc.constantFrom(1_000, 60_000), (count, unit) => {
        expect(parseDuration(formatDuration(count * unit))).toBe(count * unit)
      }),
    )
  })
})

describe('formatDuration', () => {
  it.each([
    [0, '0s'],
    [-5_000, '0s'],
    [59_999, '59s'],
    [300_000, '5m'],
    [7_800_000, '2h10m'],
    [7_200_000, '2h'],
    [273_600_000, '3d4h'],
    [7_776_000_000, '90d'],
  ])('writes %d ms', (ms, text) => {
    expect(formatDuration(ms)).toBe(text)
  })
})

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [17_179_869_184, '16.0 GiB'],
  ])('writes %d', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text)
  })
})
