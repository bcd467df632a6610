import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { cellsOf, readPage, top } from './pages.ts'

const page = readPage('docs/troubleshooting.md')
const read = (path: string) => readFileSync(join(top, path), 'utf8')

/** The members of a union of texts, as the source declares it. */
function membersOf(path: string, type: string): string[] {
  const body = new RegExp(`export type ${type} =([^=]*?)(?:\\n\\n|\\nexport)`).exec(read(path))?.[1] ?? ''
  return [...body.matchAll(/'([a-z-]+)'/g)].map(([, word = '']) => word)
}

/** The classes of refusals that a folder's code writes out. */
function refusalsBelow(folder: string): string[] {
  const files = readdirSync(join(top, folder), { recursive: true, encoding: 'utf8' })
  const sources = files.filter(file => file.endsWith('.ts') && !file.endsWith('.test.ts'))
  return sources.flatMap(file =>
    [...read(join(folder, file)).matchAll(/\brefused\(\s*'([a-z-]+)'/g)].map(([, word = '']) => word),
  )
}

const missing = (words: readonly string[]) =>
  [...new Set(words)].filter(word => !page.includes(`\`${word}\``))

describe('docs/troubleshooting.md', () => {
  it('has every class by which the coordinator refuses to enrol a machine', () => {
    const classes = membersOf('coordinator/enrolment/admission.ts', 'RefusalClass')
    expect(classes).toContain('token-used-up')
    expect(missing(classes)).toEqual([])
  })

  it('has every reason for which a machine does not believe a server', () => {
    const faults = membersOf('shared/x509/pinned-chain.ts', 'ChainFault')
    expect(faults).toContain('clock')
    expect(missing(faults)).toEqual([])
  })

  it('has every class by which a node refuses a revision', () => {
    const classes = membersOf('shared/revision/verify-revision.ts', 'RevisionRefusal')
    expect(classes).toContain('wrong-machine')
    expect(missing(classes)).toEqual([])
  })

  it('has every class by which a phase refuses', () => {
    const classes = refusalsBelow('agent/operation')
    expect(classes).toContain('not-armed')
    expect(missing(classes)).toEqual([])
    const trees = membersOf('shared/tree/receive-tree.ts', 'TreeRefusalClass').map(word => `tree-${word}`)
    expect(trees).toContain('tree-digest')
    expect(missing(trees)).toEqual([])
  })

  it('has every class of problem for which a plan is refused', () => {
    const classes = membersOf('agent/plan/plan-problems.ts', 'ProblemClass')
    expect(classes).toContain('no-dead-man')
    expect(missing(classes)).toEqual([])
  })

  it('has every kind of outcome but success, each with its cure', () => {
    const outcomes = page.split('\n## Outcomes\n')[1]?.split('\n## ')[0] ?? ''
    const rows = outcomes.split('\n').flatMap(line => {
      const [name, cause, cure] = cellsOf(line) ?? []
      return name === undefined || !cause || !cure ? [] : [name]
    })
    const kinds = Object.values(OutcomeClass).filter(value => typeof value === 'number')
    const names = kinds
      .filter(kind => kind !== OutcomeClass.UNSPECIFIED && kind !== OutcomeClass.SUCCEEDED)
      .map(outcomeName)
    expect(names).toContain('rollback failed')
    expect(names.filter(name => !rows.some(row => row.startsWith(name)))).toEqual([])
  })

  it('has every condition that a machine is shown with', () => {
    const shown = [...read('coordinator/machines/show-conditions.ts').matchAll(/\badd\(\s*'([a-z-]+)'/g)]
    const judged = [...read('coordinator/enrolment/judge-identity.ts').matchAll(/class: '([a-z-]+)'/g)]
    const words = [...shown, ...judged].map(([, word = '']) => word)
    expect(words).toEqual(expect.arrayContaining(['stuck', 'collision']))
    expect(missing(words)).toEqual([])
  })

  it('has a cure for a lost and for a leaked signing key', () => {
    for (const heading of ['### The signing key is lost', '### The signing key leaked']) {
      expect(page.split(heading)[1]?.split('\n###')[0]).toContain('--recovery-key')
    }
  })
})
