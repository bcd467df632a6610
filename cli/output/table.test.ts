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
const plain = { wide: false, colour: false, room: undefined }

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
    const coloured = renderTable(rows, columns, { ...plain, colour: true })
    expect(coloured).toContain('\u001b[32molaf\u001b[0m')
    expect(coloured.replaceAll('\u001b', '').replace(/\[\d+m/g, '')).toBe(renderTable(rows, columns, plain))
  })

  it('counts wide characters as two columns', () => {
    expect(renderTable([{ name: '日本', more: '' }], columns, plain)).toBe('NAME  END\n日本  x\n')
    expect(textWidth('日本')).toBe(4)
    expect(textWidth('e\u0301')).toBe(1)
  })

  it('fits a terminal: the last column is cut, prose goes on below, and store paths are their names', () => {
    const path = `/nix/store/${'a'.repeat(32)}-nixos-system-olaf-25.11`
    const rows = [{ name: 'olaf', more: `built ${path}; activation is switched off on this node` }]
    const cut: readonly Column<Row>[] = [
      { title: 'NAME', text: row => row.name },
      { title: 'REASON', text: row => row.more },
    ]
    expect(renderTable(rows, cut, { ...plain, room: 40 })).toBe(
      'NAME  REASON\nolaf  built nixos-system-olaf-25.11; ac…\n',
    )
    expect(renderTable(rows, cut, plain)).toContain(path)
    const prose: readonly Column<Row>[] = [
      { title: 'NAME', text: row => row.name },
      { title: 'STATE', wraps: true, text: row => row.more, style: () => 'bad' },
      { title: 'END', text: () => 'x' },
    ]
    expect(renderTable(rows, prose, { ...plain, room: 44 })).toBe(
      [
        'NAME  STATE                              END',
        'olaf  built nixos-system-olaf-25.11;     x',
        '      activation is switched off on',
        '      this node',
        '',
      ].join('\n'),
    )
  })

  it('is never wider than the terminal, and what wraps loses nothing', () => {
    const room = fc.integer({ min: 30, max: 120 })
    const prose: readonly Column<Row>[] = [
      { title: 'NAME', text: row => row.name },
      { title: 'MORE', wraps: true, text: row => row.more },
    ]
    fc.assert(
      fc.property(
        fc.array(fc.lorem({ maxCount: 40 }), { minLength: 1, maxLength: 5 }),
        room,
        (texts, columns) => {
          const text = renderTable(
            texts.map(more => ({ name: 'n', more })),
            prose,
            { ...plain, room: columns },
          )
          for (const line of text.split('\n')) expect(textWidth(line)).toBeLessThanOrEqual(columns)
          const words = (whole: string) =>
            whole.split(/\s+/).filter(word => !['NAME', 'MORE', 'n', ''].includes(word))
          expect(words(text)).toEqual(words(texts.join(' ')))
        },
      ),
    )
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
