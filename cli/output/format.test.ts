import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { HAZARDOUS } from '../testing/hazardous.ts'
import { toCsv, toJson, toYaml } from './format.ts'

const texts = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.string(),
  fc.constantFrom('a\u202eb', '\u001b[2J', '\u009b2J', '=1+1', 'yes', '1e3', '', ' x', 'a\nb', '\ufeff'),
)

describe('toJson', () => {
  it('gives the same data back, and nothing a terminal obeys', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ name: texts, labels: fc.dictionary(texts, texts) })), rows => {
        const text = toJson(rows)
        expect(JSON.parse(text)).toEqual(rows)
        expect(text.replaceAll('\n', '')).not.toMatch(HAZARDOUS)
      }),
    )
  })
})

describe('toYaml', () => {
  it('gives the same data back, and nothing a terminal obeys', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ name: texts, count: fc.integer(), none: fc.constant(null) })),
        async rows => {
          const text = await toYaml(rows)
          expect(parse(text)).toEqual(rows)
          expect(text.replaceAll('\n', '')).not.toMatch(HAZARDOUS)
        },
      ),
      { numRuns: 60 },
    )
  })
})

describe('toCsv', () => {
  it('quotes what needs quotes, writes lists as JSON and leaves what is not there empty', () => {
    const text = toCsv([{ a: 'x,"y"', b: [1, 2], c: null }], ['a', 'b', 'c', 'd'])
    expect(text).toBe('a,b,c,d\r\n"x,""y""","[1,2]",,\r\n')
  })

  it('keeps one record on one line, whatever a machine says', () => {
    fc.assert(
      fc.property(texts, name => {
        const text = toCsv([{ name }], ['name'])
        expect(text.split('\r\n')).toHaveLength(3)
        expect(text.replaceAll('\r\n', '')).not.toMatch(HAZARDOUS)
      }),
    )
  })
})
