import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cleanCount, cleanMac, cleanText, cleanUuid, cleanWwn, isPlaceholder } from './clean-values.ts'

test.each([
  'To Be Filled By O.E.M.',
  'Default string',
  'None',
  '0',
  '00000000',
  'Not Specified',
  'System Serial Number',
  'xxxxxxxx',
  '----',
  '0123456789',
  '123456789ABCDEF',
  'N/A',
  'Unknown',
])('%s stands for nothing', text => {
  expect(isPlaceholder(text)).toBe(true)
})

test.each(['7XK2Q14', 'S4EVNX0M123456', 'PF2ABCDE', 'MM000001', 'VMware-42 1e', '100200300'])(
  '%s is a serial',
  text => {
    expect(isPlaceholder(text)).toBe(false)
  },
)

test('UUIDs that many machines share are none', () => {
  for (const shared of [
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '00000000-0000-0000-0000-000000000000',
    '03000200-0400-0500-0006-000700080009',
    'not settable',
  ]) {
    expect(cleanUuid(shared)).toBeUndefined()
  }
  expect(cleanUuid('4C4C4544-0058-4B10-8032-B7C04F513134\n')).toBe('4c4c4544-0058-4b10-8032-b7c04f513134')
})

test('addresses and names of nothing but zeros are none', () => {
  expect(cleanMac('00:00:00:00:00:00')).toBeUndefined()
  expect(cleanMac('DC:A6:32:01:02:03')).toBe('dc:a6:32:01:02:03')
  expect(cleanWwn('eui.0000000000000000')).toBeUndefined()
  expect(cleanWwn('0x0000000000000000')).toBeUndefined()
  expect(cleanWwn('eui.0025385181b0a3f1')).toBe('eui.0025385181b0a3f1')
})

test('counts are whole and not negative', () => {
  expect([-1, '-1', 1.5, '', 'x', null, 2 ** 60, '99999999999999999'].map(cleanCount)).toEqual(
    Array(8).fill(undefined),
  )
  expect([0, '12\n', 34].map(cleanCount)).toEqual([0n, 12n, 34n])
})

test('text is one line within its bound, and never cut within a character', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 600 }),
      fc.integer({ min: 8, max: 300 }),
      (text, maxBytes) => {
        const clean = cleanText(text, maxBytes)
        if (clean === undefined) return
        expect(Buffer.byteLength(clean)).toBeLessThanOrEqual(maxBytes)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
        expect(clean).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
        if (!text.includes('\ufffd')) expect(Buffer.from(clean).toString()).toBe(clean)
      },
    ),
  )
})
