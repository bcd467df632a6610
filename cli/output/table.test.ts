import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Io } from '../io.ts'
import { HAZARDOUS } from '../testing/hazardous.ts'
import { showOne } from './show-list.ts'
import { type Column, leftOutText, renderFields, renderTable, tableLook } from './table.ts'
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

  it('has a text that would be too narrow on lines of its own below the row', () => {
    const rows = [
      { name: 'edge-n100-4.rack-2', more: 'the unit nginx.service does not stay up' },
      { name: 'olaf', more: '' },
    ]
    const prose: readonly Column<Row>[] = [
      { title: 'NAME', wraps: true, text: row => row.name },
      { title: 'REASON', wraps: true, text: row => row.more, style: () => 'bad' },
      { title: 'END', text: () => 'x' },
    ]
    const lines = [
      'NAME                END',
      '  REASON',
      'edge-n100-4.rack-2  x',
      '  the unit nginx.service does',
      '  not stay up',
      'olaf                x',
      '',
    ]
    expect(renderTable(rows, prose, { ...plain, room: 30 })).toBe(lines.join('\n'))
    expect(renderTable(rows, prose, { ...plain, room: 30, colour: true })).toContain(
      '  \u001b[31mnot stay up\u001b[0m\n',
    )
  })

  it('says below the row what is not known only where something follows', () => {
    const prose: readonly Column<Row>[] = [
      { title: 'NAME', text: () => 'a-name-without-any-room' },
      { title: 'FIRST', wraps: true, text: row => row.name },
      { title: 'THEN', wraps: true, text: row => row.more },
    ]
    const row = { name: '', more: 'a reason of many words' }
    expect(renderTable([row], prose, { ...plain, room: 25 })).toBe(
      'NAME\n  FIRST\n  THEN\na-name-without-any-room\n  -\n  a reason of many words\n',
    )
  })

  it('tells which columns had no room, and none that nobody asked for', () => {
    const told: (readonly string[])[] = []
    const leftOut = (titles: readonly string[]) => void told.push(titles)
    const some: readonly Column<Row>[] = [
      { title: 'NAME', wraps: true, text: row => row.name },
      { title: 'PRODUCT', text: () => 'a long product' },
      { title: 'MORE', wide: true, text: row => row.more },
      { title: 'REASON', wraps: true, text: row => row.more },
    ]
    const rows = [{ name: 'olaf', more: 'a reason of many words' }]
    renderTable(rows, some, { ...plain, leftOut, room: 30 })
    renderTable(rows, some, { ...plain, leftOut, room: 80 })
    expect(told).toEqual([['PRODUCT'], []])
  })

  it('is never wider than the terminal, and what wraps loses nothing', () => {
    const word = fc.stringMatching(/^[a-z日]{1,40}$/)
    const text = fc.array(word, { maxLength: 20 }).map(words => words.join(' '))
    const table = fc.record({
      room: fc.integer({ min: 8, max: 120 }),
      rows: fc.array(fc.record({ name: word, state: text, more: text }), { minLength: 1, maxLength: 4 }),
    })
    fc.assert(
      fc.property(table, fc.boolean(), ({ rows, room }, nameWraps) => {
        const wrapping: readonly Column<(typeof rows)[number]>[] = [
          { title: '1', wraps: nameWraps, text: () => '1' },
          { title: 'X', text: () => '22' },
          { title: '3', wraps: true, text: row => row.name },
          { title: '4', wraps: true, text: row => row.state },
          { title: '5', wraps: true, text: row => row.more },
        ]
        const shown = renderTable(rows, wrapping, { ...plain, room })
        for (const line of shown.split('\n')) expect(textWidth(line)).toBeLessThanOrEqual(room)
        // Lines of columns that stand side by side are mixed: what counts is that each character is there.
        const letters = (whole: string) => [...whole.replace(/[^a-z日]/g, '')].sort().join('')
        expect(letters(shown)).toBe(
          letters(rows.map(({ name, state, more }) => name + state + more).join('')),
        )
      }),
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

describe('tableLook', () => {
  const terminal = (outIsTerminal: boolean, errIsTerminal: boolean) => {
    const said: string[] = []
    const io: Io = {
      out: () => {},
      err: text => void said.push(text),
      outIsTerminal,
      errIsTerminal,
      columns: 20,
      screen: { columns: 20, rows: 24 },
      onResize: () => () => {},
      readerGone: new AbortController().signal,
      colour: false,
    }
    return { io, said }
  }
  const wide: readonly Column<Row>[] = ['A', 'B', 'C'].map(title => ({ title, text: () => 'x'.repeat(19) }))
  const rows = [{ name: '', more: '' }]

  it('says once, after all tables of a picture, what had no room', async () => {
    const { io, said } = terminal(true, true)
    for (const _ of ['one table', 'another']) renderTable(rows, wide, tableLook(io, false))
    expect(said).toEqual([])
    await setImmediate()
    expect(said).toEqual(['B and C are left out here; -o wide shows all\n'])
    renderTable(rows, wide, tableLook(io, false))
    await setImmediate()
    expect(said).toHaveLength(1)
  })

  it.each([
    ['a pipe', false, true, false],
    ['a log of errors', true, false, false],
    ['who asks for all', true, true, true],
  ])('says nothing to %s', async (_, out, err, all) => {
    const { io, said } = terminal(out, err)
    const text = renderTable(rows, wide, tableLook(io, all))
    await setImmediate()
    expect(said).toEqual([])
    expect(text.includes('C')).toBe(!out || all)
  })

  it('says nothing of a table that is not shown', async () => {
    const { io, said } = terminal(true, true)
    renderTable(rows, wide, tableLook(io, false))
    await showOne(io, { a: 1 }, 'json', () => '')
    await setImmediate()
    expect(said).toEqual([])
  })

  it('names one column, or many', () => {
    expect(leftOutText(['BY'])).toBe('BY is left out here; -o wide shows all\n')
    expect(leftOutText(['AGE', 'TOOK', 'BY'])).toBe('AGE, TOOK and BY are left out here; -o wide shows all\n')
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
