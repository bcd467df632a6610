import fc from 'fast-check'
import { expect, it } from 'vitest'
import { cutText, wellFormed } from './cut-text.ts'

it('cuts where a character ends, and leaves what is shorter as it is', () => {
  expect(cutText('abc', 2)).toBe('ab')
  expect(cutText('a😀', 2)).toBe('a')
  expect(cutText('a😀', 3)).toBe('a😀')
  expect(cutText('😀😀', 2)).toBe('😀')
  expect(cutText('a\ud83d', 9)).toBe('a\ufffd')
  expect(wellFormed('\ude00a')).toBe('\ufffda')
})

it('what comes out is read back as it was written, whatever comes in', () => {
  const unit = fc.integer({ min: 0, max: 0xffff }).map(code => String.fromCharCode(code))
  const half = fc.integer({ min: 0xd800, max: 0xdfff }).map(code => String.fromCharCode(code))
  const text = fc
    .array(fc.oneof(unit, half, fc.constant('😀')), { maxLength: 20 })
    .map(parts => parts.join(''))
  fc.assert(
    fc.property(text, fc.nat(20), (words, most) => {
      const cut = cutText(words, most)
      expect(Buffer.from(cut).toString()).toBe(cut)
      expect(cut.length).toBeLessThanOrEqual(most)
      expect(wellFormed(words).startsWith(cut) || cut.endsWith('\ufffd')).toBe(true)
    }),
  )
})
