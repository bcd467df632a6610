import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { unitDifference } from './unit-difference.ts'
import { booleanOf, parseUnitFile, programOf, wordsOf } from './unit-file.ts'

describe('a unit file', () => {
  test('adds up its drop-ins, an empty value takes back what was said', () => {
    const unit = parseUnitFile([
      '[Service]\nExecStart=/one\nEnvironment=A=1\n',
      '[Service]\nExecStart=\nExecStart=/two\nEnvironment=B=2\n',
    ])
    expect(unit.get('Service')?.get('ExecStart')).toEqual(['/two'])
    expect(unit.get('Service')?.get('Environment')).toEqual(['A=1', 'B=2'])
  })

  test('goes on over a backslash, past comments, and has no [Install]', () => {
    const unit = parseUnitFile([
      '# a comment\n[Unit]\nWants=a.service \\\n; in between\n  b.service\n[Install]\nWantedBy=x\n',
    ])
    expect(wordsOf(unit, 'Unit', 'Wants')).toEqual(['a.service', 'b.service'])
    expect([...unit.keys()]).toEqual(['Unit'])
  })

  test.each([
    ['/nix/store/x/bin/agent --config y', '/nix/store/x/bin/agent'],
    ['@-/nix/store/x/bin/agent agent', '/nix/store/x/bin/agent'],
    ['+"/a path/agent" x', '/a path/agent'],
    ['', undefined],
  ])('runs the program of ExecStart=%s', (line, program) => {
    expect(programOf(parseUnitFile([`[Service]\nExecStart=${line}\n`]))).toBe(program)
  })

  test('reads booleans as the switch program does: the last counts, a word it does not know is a no', () => {
    const unit = parseUnitFile(['[Unit]\nA=yes\nB=off\nC=true\nC=perhaps\n'])
    const read = (key: string, absent: boolean) => booleanOf(unit, 'Unit', key, absent)
    expect([read('A', false), read('B', true), read('C', true), read('D', true)]).toEqual([
      true,
      false,
      false,
      true,
    ])
  })
})

describe('the difference of two versions of a unit', () => {
  test.each([
    ['[Unit]\nDocumentation=a', '[Unit]\nDocumentation=b', 'none'],
    ['[Unit]\nDescription=a', '', 'none'],
    ['[Service]\nExecStart=/a', '[Service]\nExecStart=/b', 'restart'],
    ['[Unit]\nAfter=a', '[Unit]\nAfter=b', 'restart'],
    ['[Unit]\nX-Reload-Triggers=a', '[Unit]\nX-Reload-Triggers=b', 'reload'],
    ['', '[Unit]\nX-Reload-Triggers=b', 'reload'],
    ['[Unit]\nX-Reload-Triggers=a', '', 'none'],
    ['[Unit]\nX-Reload-Triggers=a', '[Unit]\nX-Reload-Triggers=b\nAfter=c', 'restart'],
    ['[Service]\nExecReload=/a', '[Service]\nExecReload=/b', 'reload'],
    ['[Service]\nExecReload=/a', '[Service]', 'none'],
    ['[Mount]\nOptions=a', '[Mount]\nOptions=b', 'reload'],
    ['[Mount]\nOptions=a', '[Mount]', 'restart'],
    ['[Mount]\nWhat=a', '[Mount]\nWhat=b', 'restart'],
    ['[Service]\nA=1\nB=2', '[Service]\nB=2\nA=1', 'none'],
    ['[Service]\nA=1\nA=2', '[Service]\nA=2\nA=1', 'restart'],
  ])('between %j and %j asks for: %s', (before, after, expected) => {
    expect(unitDifference(parseUnitFile([before]), parseUnitFile([after]))).toBe(expected)
  })

  test('is none from a unit to itself, and a restart whenever a setting that matters differs', () => {
    const settings = fc.dictionary(
      fc.constantFrom('ExecStart', 'User', 'Type'),
      fc.constantFrom('1', '2', '3'),
    )
    const text = (values: Record<string, string>) =>
      ['[Service]', ...Object.entries(values).map(([key, value]) => `${key}=${value}`)].join('\n')
    fc.assert(
      fc.property(settings, settings, (a, b) => {
        const same = ['ExecStart', 'User', 'Type'].every(key => a[key] === b[key])
        const difference = unitDifference(parseUnitFile([text(a)]), parseUnitFile([text(b)]))
        expect(difference).toBe(same ? 'none' : 'restart')
      }),
    )
  })
})
