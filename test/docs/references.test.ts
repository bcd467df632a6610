import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { anchorsOf, linksOf, listPages, readPage, testsNamedIn, top } from './pages.ts'

const pages = listPages()

/** Why a named test is not one; undefined: it is there. */
function faultOf(file: string, title: string | undefined): string | undefined {
  if (!existsSync(join(top, file))) return `${file}: no such file`
  if (title === undefined) return undefined
  const source = readFileSync(join(top, file), 'utf8').replaceAll(/\\(['"`])/g, '$1')
  return title !== '' && source.includes(title) ? undefined : `${file}: has no test ${JSON.stringify(title)}`
}

describe('the tests that pages name', () => {
  it('exist, each with its title', () => {
    const named = pages.flatMap(page => testsNamedIn(page, readPage(page)))
    const faults = named.flatMap(({ page, line, file, title }) => {
      const fault = faultOf(file, title)
      return fault === undefined ? [] : [`${page}:${line}: ${fault}`]
    })
    expect(faults).toEqual([])
    expect(named.filter(({ page }) => page === 'SECURITY.md').length).toBeGreaterThan(40)
  })

  it('stand beside every claim of SECURITY.md', () => {
    const text = readPage('SECURITY.md')
    const claims = text.slice(text.indexOf('\n## Claims'), text.indexOf('\n## What a taken-over'))
    const rows = claims.split('\n').filter(line => /^\| (?!claim |-)/.test(line))
    expect(rows.length).toBeGreaterThan(40)
    expect(rows.filter(row => testsNamedIn('SECURITY.md', row)[0]?.title === undefined)).toEqual([])
  })

  it('are missed by this check when the file or the title is another', () => {
    const row = '| a claim | `test/docs/references.test.ts` | exist, each with its title |'
    const [named] = testsNamedIn('page', row)
    expect(faultOf(named?.file ?? '', named?.title)).toBeUndefined()
    expect(faultOf('test/docs/none.test.ts', named?.title)).toContain('no such file')
    expect(faultOf(named?.file ?? '', ['exist', 'never'].join(' '))).toContain('has no test')
    expect(faultOf(named?.file ?? '', '')).toContain('has no test')
  })
})

describe('the links of pages', () => {
  it('lead to files that are there, and to headings of theirs', () => {
    const faults = pages.flatMap(page =>
      linksOf(readPage(page))
        .filter(target => !/^[a-z]+:/.test(target))
        .flatMap(target => {
          const [path = '', anchor] = target.split('#')
          const file = path === '' ? page : normalize(join(dirname(page), path))
          if (!existsSync(join(top, file))) return [`${page}: ${target}: no such file`]
          if (anchor === undefined || anchorsOf(readPage(file)).has(anchor)) return []
          return [`${page}: ${target}: no such heading`]
        }),
    )
    expect(faults).toEqual([])
  })

  it('reach every page below docs from the README', () => {
    const seen = new Set<string>()
    const visit = (page: string) => {
      if (seen.has(page) || !pages.includes(page)) return
      seen.add(page)
      for (const target of linksOf(readPage(page)).filter(link => !/^[a-z]+:/.test(link))) {
        const [path = ''] = target.split('#')
        if (path !== '') visit(normalize(join(dirname(page), path)))
      }
    }
    visit('README.md')
    expect(pages.filter(page => page.startsWith('docs/') && !seen.has(page))).toEqual([])
  })
})

describe('what no page holds', () => {
  it('is a path of somebody’s own machine, or the host of a registry', () => {
    const foreign =
      /(?:^|[\s`"'(])\/(?:home|Users|work|workspaces?|builds?)\/[\w.-]+|\/tmp\/[\w-]+\.[A-Za-z0-9]{4,}\/|\bregistry\.(?:npmjs|[\w-]+\.(?:com|org|net|io|dev|lan|local|internal))\b|\b(?:artifactory|verdaccio|nexus)\b/
    expect('see /home/ann/muster and registry.example.org').toMatch(foreign)
    const found = pages.flatMap(page =>
      readPage(page)
        .split('\n')
        .flatMap((line, index) => (foreign.test(line) ? [`${page}:${index + 1}: ${line.trim()}`] : [])),
    )
    expect(found).toEqual([])
  })
})
