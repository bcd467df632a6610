import { describe, expect, it } from 'vitest'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { phaseName } from '../../shared/operation-names.ts'
import { cellsOf, readPage } from './pages.ts'

const page = readPage('docs/safety.md')
const rowsOf = (heading: string) =>
  (page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '')
    .split('\n')
    .flatMap(line => [cellsOf(line) ?? []])
    .filter(cells => cells.length > 0 && !/^-+$/.test(cells[0] ?? ''))
    .slice(1)

describe('docs/safety.md', () => {
  it('names every phase that an operation has, and no other', () => {
    const told = rowsOf('Phases').flatMap(([names = '']) => names.split(', '))
    const phases = Object.values(Phase).filter(value => typeof value === 'number')
    // Nothing is drained yet, and what is done has no work left.
    const silent = new Set<Phase>([Phase.UNSPECIFIED, Phase.DRAIN, Phase.DONE])
    expect(told.toSorted()).toEqual(
      phases
        .filter(phase => !silent.has(phase))
        .map(phaseName)
        .toSorted(),
    )
  })

  it('tells the defaults that the module has', () => {
    const reference = readPage('docs/reference/nixos-options.md')
    const rows = rowsOf('Settings')
    expect(rows.length).toBeGreaterThan(4)
    for (const [option = '', told = ''] of rows) {
      const section = reference.split(`\n## ${option}\n`)[1]?.split('\n## ')[0]
      expect(section, option).toBeDefined()
      const value = /^- Default: `"?(\w+)"?`$/m.exec(section ?? '')?.[1]
      if (value !== undefined) expect(told, option).toBe(value)
    }
  })

  it('promises something for each fault, and names a test that is there, whole or not at all', () => {
    const rows = rowsOf('Faults')
    expect(rows.length).toBeGreaterThan(20)
    for (const [fault = '', promise = '', file = '', title = ''] of rows) {
      expect(promise, fault).not.toBe('')
      expect(file === '', fault).toBe(title === '')
      const path = /^`(.*)`$/.exec(file)?.[1]
      // Also a row of a table of tests, whose words stand in the middle of a title.
      if (path !== undefined) expect(readPage(path).includes(title), `${path}: ${title}`).toBe(true)
    }
  })
})
