import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LineSplitter } from './line-splitter.ts'

function splitAt(bytes: Buffer, cuts: readonly number[], maxBytes: number): string[] {
  const splitter = new LineSplitter(maxBytes)
  const places = [0, ...cuts.map(cut => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  const lines = places.slice(1).flatMap((end, i) => splitter.push(bytes.subarray(places[i], end)))
  return [...lines, ...splitter.end()].map(line => line.text)
}

test('T32: lines are the same wherever the bytes are cut into chunks', () => {
  const line = fc.string({ unit: 'binary', maxLength: 20 }).map(text => text.replace(/[\r\n]/g, '·'))
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat()), (lines, cuts) => {
      const bytes = Buffer.from(lines.map(text => `${text}\n`).join(''))
      expect(splitAt(bytes, cuts, 4096)).toEqual(lines.map(text => Buffer.from(text).toString()))
    }),
  )
})

test('T32: a cut line never ends within a code point and stays within its bound', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('a', 'ä', '€', '😀'),
      fc.integer({ min: 100, max: 600 }),
      fc.array(fc.nat()),
      fc.nat(3),
      (char, count, cuts, shift) => {
        const bytes = Buffer.from('x'.repeat(shift) + char.repeat(count))
        const [text = ''] = splitAt(bytes, cuts, 128)
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(128)
        expect(text).not.toContain('\ufffd')
        if (bytes.length > 128) expect(text).toMatch(/ \[cut: \d+ bytes more\]$/)
      },
    ),
  )
})

test('bytes that are no UTF-8 are kept as replacement characters', () => {
  const splitter = new LineSplitter(4096)
  expect(splitter.push(Buffer.from([0xff, 0x80, 0x0a]))).toEqual([{ text: '\ufffd\ufffd', cut: false }])
})
