import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { formatProblems, ProblemList } from './problem.ts'
import { readToml, type TomlNode } from './toml-document.ts'

function read(text: string): { readonly value: unknown; readonly problems: string } {
  const list = new ProblemList('f')
  const root = readToml(text, list.report)
  return { value: root === undefined ? undefined : plain(root), problems: formatProblems(list.list()) }
}

function plain(node: TomlNode): unknown {
  if (node.kind === 'table') return new Map([...node.entries].map(([key, { value }]) => [key, plain(value)]))
  return node.kind === 'array' ? node.items.map(plain) : node.value
}

// Documents on which readers of TOML differ. "taken" and "refused" are what Nix 2.8 does and what we do; "stricter" is what
// Nix takes and we refuse, because a program would round, cut or not be able to write the value.
const documents: readonly (readonly [text: string, expected: 'taken' | 'refused' | 'stricter'])[] = [
  ['', 'taken'],
  ['# only a comment', 'taken'],
  ['a = 1', 'taken'],
  ['a = 1\r\nb = 2\r\n', 'taken'],
  ['a = 1\rb = 2', 'refused'],
  ['a = 1 b = 2', 'refused'],
  ['a = 1\na = 2', 'refused'],
  ['a.b = 1\na.c = 2', 'taken'],
  ['a.b = 1\na.b.c = 2', 'refused'],
  ['[a]\n[a]', 'refused'],
  ['[a.b]\nx = 1\n[a]\ny = 2', 'taken'],
  ['[a]\n[a.b]\n[a.b.c]\nx = 1', 'taken'],
  ['[[a]]\nx = 1\n[[a]]\nx = 2', 'taken'],
  ['[[a]]\n[a.b]\nx = 1\n[[a]]\n[a.b]\nx = 2', 'taken'],
  ['[[a]]\n[a]', 'refused'],
  ['a = []\n[[a]]', 'refused'],
  ['a = { b = 1 }', 'taken'],
  ['a = {}', 'taken'],
  ['a = { b.c = 1, b.d = 2 }', 'taken'],
  ['a = { b = 1, }', 'refused'],
  ['a = { b = 1\n}', 'refused'],
  ['a = {\n}', 'refused'],
  ['a = { b = 1, b = 2 }', 'refused'],
  ['a = { b = [1,\n2] }', 'taken'],
  ['a = {}\n[a.b]', 'refused'],
  ['a = [1, 2, ]', 'taken'],
  ['a = [1,\n# why\n2,\n]', 'taken'],
  ['a = [,]', 'refused'],
  ['a = [1 2]', 'refused'],
  ['a = 2020-01-01', 'refused'],
  ['a = 2020-01-01T10:00:00Z', 'refused'],
  ['a = 2020-01-01 10:00:00', 'refused'],
  ['a = 10:00:00', 'refused'],
  ['a = 0x1F', 'taken'],
  ['a = 0o17', 'taken'],
  ['a = 0b101', 'taken'],
  ['a = 1_000', 'taken'],
  ['a = 1__0', 'refused'],
  ['a = 01', 'refused'],
  ['a = +1', 'taken'],
  ['a = -17', 'taken'],
  ['a = 1.5', 'taken'],
  ['a = 1.', 'refused'],
  ['a = .5', 'refused'],
  ['a = 1e3', 'taken'],
  ['a = 9007199254740991', 'taken'],
  ['a = 9007199254740992', 'stricter'],
  ['a = 9223372036854775807', 'stricter'],
  ['a = nan', 'stricter'],
  ['a = 1e400', 'stricter'],
  ['a = True', 'refused'],
  ['a = yes', 'refused'],
  ['a = ', 'refused'],
  ['= 1', 'refused'],
  ['a', 'refused'],
  ['[a', 'refused'],
  ['[]', 'refused'],
  ['"a b" = 1', 'taken'],
  ['"" = 1', 'taken'],
  ["'a.b' = 1", 'taken'],
  ['a."b.c" = 1', 'taken'],
  ['ä = 1', 'refused'],
  ['"ä" = "ü€😀"', 'taken'],
  ['a = "\\u00e9\\U0001F600\\t\\n\\"\\\\"', 'taken'],
  ['a = "\\e"', 'refused'],
  ['a = "\\x41"', 'refused'],
  ['a = "\\ud800"', 'refused'],
  ['a = "\\u0000b"', 'stricter'],
  ['a = "one\ntwo"', 'refused'],
  ['a = """one\ntwo"""', 'taken'],
  ['a = """\none \\\n   two"""', 'taken'],
  ["a = '''\none\\two'''", 'taken'],
  ["a = 'c:\\x'", 'taken'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: this is text of Nix
  ['a = "${b}"', 'taken'],
  ['a = "\u0001"', 'refused'],
  ['__proto__ = 1', 'taken'],
  ['[__proto__]\na = 1', 'taken'],
  ['constructor.prototype = 1', 'taken'],
]

const nixArguments = ['--extra-experimental-features', 'nix-command', 'eval', '--impure', '--json', '--expr']
const hasNix = spawnSync('nix', [...nixArguments, '1'], { timeout: 30_000 }).status === 0

/** What Nix reads, as JSON; undefined when it refuses. Nix opens the file itself: stdin is a socket here. */
function readWithNix(file: string, text: string): string | undefined {
  writeFileSync(file, text)
  const run = spawnSync('nix', [...nixArguments, `builtins.fromTOML (builtins.readFile ${file})`], {
    timeout: 30_000,
  })
  if (run.status !== 0 && !/TOML/i.test(run.stderr.toString())) throw new Error(run.stderr.toString())
  return run.status === 0 ? run.stdout.toString() : undefined
}

function fromJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromJson)
  if (typeof value !== 'object' || value === null) return value
  return new Map(Object.entries(value).map(([key, item]) => [key, fromJson(item)]))
}

describe('a mistake of form', () => {
  it.each([
    [
      '[fleet]\n[hosts.x\nrole = "none"\n',
      'f:2:9: error: no valid TOML 1.0: the name of the table is not closed (write ] after it)',
    ],
    ['[hosts.x\n', 'f:1:9: error: no valid TOML 1.0: the name of the table is not closed (write ] after it)'],
    [
      '[[h.x]\na = 1\n',
      'f:1:7: error: no valid TOML 1.0: the name of the table is not closed (write ]] after it)',
    ],
    [
      '[a]\nb\n= 1\n',
      'f:2:2: error: no valid TOML 1.0: the key, equals sign, and value must be on the same line',
    ],
  ])('%j is told where it is', (text, expected) => {
    expect(read(text).problems).toContain(expected)
  })

  it.each([
    ['[hosts.x]\na = 1\n[hosts.y]\n[hosts.x]\n', 4, 1],
    ['a = 1\nb = 2\na = 3\n', 3, 1],
    ['[h]\nx = """\na = 2\n"""\na = 1\na = 3\n', 6, 5],
    ['[a.b]\n[a]\nb = 1\n', 3, 1],
    ['[a]\nb.c = 1\n[a.b]\n', 3, 2],
    ['[[h]]\na = 1\n[[h]]\na = 1\na = 2\n', 5, 4],
  ])('%j names the line of what is defined again in line %i', (text, line, first) => {
    const { problems } = read(text)
    expect(problems).toContain(`f:${line}:`)
    expect(problems).toContain(`this key or table stands in line ${first} already`)
  })
})

describe('reading TOML', () => {
  it.each(documents)('%j is %s', (text, expected) => {
    const { value, problems } = read(text)
    expect(problems === '').toBe(expected === 'taken')
    if (expected === 'taken') expect(value).toBeInstanceOf(Map)
  })

  it.skipIf(!hasNix)(
    'takes and refuses what the installed Nix takes and refuses, and reads the same values',
    () => {
      const folder = mkdtempSync(join(tmpdir(), 'muster-toml-'))
      onTestFinished(() => rmSync(folder, { recursive: true }))
      for (const [text, expected] of documents) {
        const nix = readWithNix(join(folder, 'x.toml'), text)
        expect(nix === undefined ? 'refused' : 'taken', text).toBe(
          expected === 'stricter' ? 'taken' : expected,
        )
        if (expected !== 'taken' || nix === undefined) continue
        expect(read(text).value, text).toEqual(fromJson(JSON.parse(nix)))
      }
    },
  )

  it('names the place of each mistake, counted from one', () => {
    expect(read('a = 1\n  b = {c = 1,}').problems).toMatch(
      /^f:2:14: error: no valid TOML 1\.0: trailing comma .*remove the last comma/,
    )
    expect(read('a = 1\na = 2').problems).toContain(
      'f:2:1: error: no valid TOML 1.0: defining a key multiple times is invalid',
    )
    expect(read('a = 1\n\nbc = [1, 2020-01-01]').problems).toContain(
      'f:3:10: error: bc.1: Nix reads no dates',
    )
    expect(read('[a]\n"b c" = inf').problems).toContain('f:2:9: error: a."b c": the number is not finite')
    expect(read('é = 1').problems).toContain('f:1:1: error: ')
  })

  it('keeps the place of keys and values', () => {
    const root = readToml('[a.b]\n  c.d = { e = [1,\n "x"] }', new ProblemList('f').report)
    const a = root?.entries.get('a')
    expect(a?.keyAt).toEqual({ line: 1, column: 2 })
    const b = a?.value.kind === 'table' ? a.value.entries.get('b') : undefined
    expect(b?.keyAt).toEqual({ line: 1, column: 4 })
    const c = b?.value.kind === 'table' ? b.value.entries.get('c') : undefined
    expect(c?.keyAt).toEqual({ line: 2, column: 3 })
    const d = c?.value.kind === 'table' ? c.value.entries.get('d') : undefined
    expect(d).toMatchObject({ keyAt: { line: 2, column: 5 }, value: { at: { line: 2, column: 9 } } })
    const e = d?.value.kind === 'table' ? d.value.entries.get('e')?.value : undefined
    expect(e?.kind === 'array' && e.items.map(({ at }) => at)).toEqual([
      { line: 2, column: 16 },
      { line: 3, column: 2 },
    ])
  })

  it('refuses what cannot be UTF-8 or starts with a byte order mark', () => {
    expect(read('\ufeffa = 1').problems).toContain('f:1:1: error: the file starts with a byte order mark')
    expect(read('a = "\ud800"').problems).toContain('half a character')
  })

  it('ends soon and without a crash on hostile nesting and sizes', () => {
    for (const text of [
      `a = ${'['.repeat(200_000)}`,
      `a = ${'['.repeat(20_000)}${']'.repeat(20_000)}`,
      `a = ${'{a='.repeat(100_000)}`,
      `${'a.'.repeat(200_000)}b = 1`,
      `[${'a.'.repeat(200_000)}b]`,
      `a = "${'x'.repeat(1_000_000)}"`,
      '[[a]]\n'.repeat(100_000),
    ]) {
      const { problems } = read(text)
      if (!text.startsWith('[[a]]')) expect(problems, text.slice(0, 20)).toMatch(/^f:1:\d+: error: /)
    }
  })
})
