import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { cellsOf, listPages, readPage, top } from './pages.ts'

/** Every name that the reference of questions has a row for, and whatever stands before a dot of one. */
const known = new Set(
  readPage('docs/reference/query.md')
    .split('\n')
    .flatMap(line => /^`([a-z][\w.[\]]*)`$/.exec(cellsOf(line)?.[0] ?? '')?.[1] ?? [])
    .flatMap(name => {
      const parts = name.replaceAll('[]', '').split('.')
      return parts.map((_, at) => parts.slice(0, at + 1).join('.'))
    }),
)

/** Names of the questions' variables in a text: what begins with one of these and goes on with a dot. */
const NAME = /(?<![\w./-])(?:facts|status|machine|node|cluster)(?:\.[A-Za-z_]+)+/g
/** What may be called on a value. */
const METHODS = [
  'size',
  'exists',
  'all',
  'filter',
  'map',
  'contains',
  'startsWith',
  'endsWith',
  'matches',
  'exists_one',
]

/** Expressions that people are told to type: behind --where, --select and the like, and the question itself. */
function expressionsIn(text: string): readonly string[] {
  const typed =
    /(?:--(?:where|select|group-by|sort)|muster query)[ =](?:'([^']+)'|"([^"]+)"|([a-z]+\.[\w.]+))/g
  return [...text.matchAll(typed)].map(([, single, double, bare]) => single ?? double ?? bare ?? '')
}

const sources = [
  ...listPages().map(path => ({ path, text: readPage(path) })),
  ...readdirSync(join(top, 'cli/define')).flatMap(name =>
    name.endsWith('.ts')
      ? [{ path: `cli/define/${name}`, text: readFileSync(join(top, 'cli/define', name), 'utf8') }]
      : [],
  ),
]

describe('expressions in help texts and pages', () => {
  it('speak only of what there is', () => {
    const wrong = sources.flatMap(({ path, text }) =>
      expressionsIn(text).flatMap(expression =>
        [...expression.replace(/"[^"]*"/g, '""').matchAll(NAME)].flatMap(([name]) => {
          const parts = name.split('.')
          const last = METHODS.includes(parts.at(-1) ?? '') ? parts.slice(0, -1) : parts
          return known.has(last.join('.')) ? [] : [`${path}: ${expression}: ${name}`]
        }),
      ),
    )
    expect(wrong).toEqual([])
  })

  it('are found in many places, and names are known', () => {
    expect(sources.flatMap(({ text }) => expressionsIn(text)).length).toBeGreaterThan(30)
    expect(known.has('facts.nixos.rebootReasons')).toBe(true)
    expect(known.has('facts.nixos.reboot_reasons')).toBe(false)
  })
})
