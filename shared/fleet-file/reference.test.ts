import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { formatProblems, ProblemList } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'
import { referenceLines, referenceRow } from './reference.ts'
import { readToml } from './toml-document.ts'

const page = await readFile(new URL('../../docs/reference/fleet-file.md', import.meta.url), 'utf8')

describe('the reference of the fleet file', () => {
  it('has the row of every key in the schema', () => {
    const rows = new Set(page.split('\n'))
    expect(
      referenceLines()
        .map(referenceRow)
        .filter(row => !rows.has(row)),
    ).toEqual([])
  })

  it('has no row of a key that the schema does not know', () => {
    const rows = page.split('\n').filter(line => line.startsWith('| `'))
    const known = new Set(referenceLines().map(referenceRow))
    expect(rows.filter(row => !known.has(row))).toEqual([])
    expect(rows).toHaveLength(known.size)
  })

  it('shows examples that the check takes, but for keys and serials that are cut short', () => {
    for (const { key, line } of referenceLines().filter(({ line }) => !line.example.includes('…'))) {
      const problems = new ProblemList('example')
      const value = readToml(`x = ${line.example}`, problems.report)?.entries.get('x')?.value
      if (value === undefined) throw new Error(`the example of ${key} is no TOML`)
      expect(line.type.read(value, [key], problems.report), key).toBeDefined()
      expect(problems.list(), key).toEqual([])
    }
  })

  it('shows a whole file that passes the check without a warning', () => {
    const example = /```toml\n([\s\S]*?)```/.exec(page)?.[1] ?? ''
    expect(example).toContain('[hosts.olaf]')
    expect(formatProblems(readFleetFile(example, 'fleet.toml').problems)).toBe('')
  })
})
