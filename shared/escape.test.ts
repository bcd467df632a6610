import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { escapeText } from './escape.ts'

describe('text of machines', () => {
  it('cannot move the cursor, end the line or turn the direction of what stands around it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), text => {
        expect(escapeText(text)).not.toMatch(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u)
      }),
      { numRuns: 2_000 },
    )
    for (const code of [
      0x00, 0x07, 0x0a, 0x0d, 0x1b, 0x7f, 0x85, 0x9b, 0x200b, 0x202e, 0x2066, 0x2028, 0xfeff,
    ]) {
      expect(escapeText(`a${String.fromCharCode(code)}b`)).toBe(`a\\u${code.toString(16).padStart(4, '0')}b`)
    }
  })

  it('stays as it is otherwise, in any script', () => {
    for (const text of ['', 'olaf', 'Ünïcode – ok', '日本語', 'שלום', '🦊 \\u001b'])
      expect(escapeText(text)).toBe(text)
  })

  it('is escaped once, however often it is done', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        expect(escapeText(escapeText(text))).toBe(escapeText(text))
      }),
    )
  })
})
