import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HAZARDOUS } from '../testing/hazardous.ts'
import { type Column, renderFields, renderTable } from './table.ts'
import { textWidth } from './text-width.ts'

interface Row {
  readonly name: string
  readonly more: string
}
const columns: readonly Column<Row>[] = [
  { title: 'NAME', text: row => row.name, style: () => 'good' },
  { title: 'MORE', wide: true, text: row => row.more },
  { title: 'END', text: () => 'x' },
]
const plain = { wide: false, colour: false }

describe('renderTable', () => {
  it('aligns columns without borders, and shows wide ones when asked', () => {
    const rows = [
      { name: 'olaf', more: '1' },
      { name: 'a-long-name', more: '22' },
    ]
    expect(renderTable(rows, columns, plain)).toBe('NAME         END\nolaf         x\na-long-name  x\n')
    expect(renderTable(rows, columns, { ...plain, wide: true })).toBe(
      'NAME         MORE  END\nolaf         1     x\na-long-name  22    x\n',
    )
  })

  it('shows a dash where nothing is known', () => {
    expect(renderTable([{ name: '', more: '' }], columns, plain)).toBe('NAME  END\n-     x\n')
  })

  it('uses colour only when told to, and stays aligned', () => {
    const rows = [{ name: 'olaf', more: '' }]
    expect(renderTable(rows, columns, plain)).not.toContain('\u001b')
    const coloured = renderTable(rows, columns, { wide: false, colour: true })
    expect(coloured).toContain('\u001b[32molaf\u001b[0m')
    expect(coloured.replaceAll('\u001b', '').replace(/\[\d+m/g, '')).toBe(renderTable(rows, columns, plain))
  })

  it('counts wide characters as two columns', () => {
    expect(renderTable([{ name: '日本', more: '' }], columns, plain)).toBe('NAME  END\n日本  x\n')
    expect(textWidth('日本')).toBe(4)
    expect(textWidth('e\u0301')).toBe(1)
  })

  it('never lets text from a machine break a line or steer the terminal', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), name => {
        const text = renderTable([{ name, more: '' }], columns, plain)
        expect(text.split('\n')).toHaveLength(3)
        expect(text.replaceAll('\n', '')).not.toMatch(HAZARDOUS)
      }),
    )
  })
})

describe('renderFields', () => {
  it('leaves out what is not there and escapes what is', () => {
    expect(
      renderFields(
        [
          ['A', 'x\u202ey'],
          ['Long', undefined],
          ['B', ''],
        ],
        false,
      ),
    ).toBe('A  x\\u202ey\n')
  })
})
