import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const top = join(import.meta.dirname, '..')
const page = readFileSync(join(top, 'docs/traps.md'), 'utf8')

interface Row {
  readonly number: string
  readonly cells: readonly string[]
  readonly files: readonly string[]
}

const rows: readonly Row[] = page.split('\n').flatMap(line => {
  const cells = line.split('|').map(cell => cell.trim())
  const number = cells[1] ?? ''
  if (!/^([TNKQRPSA][0-9]+)$/.test(number)) return []
  const files = [...(cells[3] ?? '').matchAll(/`([^`\s]+\.(?:ts|mjs|proto|json|yaml|nix))`/g)].map(
    ([, file]) => file ?? '',
  )
  return [{ number, cells, files }]
})

describe('the page of traps', () => {
  it('names each one of this part once', () => {
    const numbers = rows.map(({ number }) => number)
    expect(new Set(numbers).size).toBe(numbers.length)
    const wanted = [
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19].map(n => `T${n}`),
      ...[20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36].map(n => `T${n}`),
      ...[37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50].map(n => `T${n}`),
      ...[51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67].map(n => `T${n}`),
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map(n => `N${n}`),
      ...[20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35].map(n => `N${n}`),
      ...[36, 37, 38, 39, 40, 41, 42, 43, 45].map(n => `N${n}`),
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21].map(n => `K${n}`),
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map(n => `Q${n}`),
      ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(n => `R${n}`),
      ...[1, 2, 3, 4].map(n => `S${n}`),
      ...[1, 2, 3, 4, 5, 6, 7].map(n => `A${n}`),
    ]
    expect(numbers).toEqual(expect.arrayContaining(wanted))
  })

  it.each(rows)(
    '$number: the files it names exist, and a test in each carries the number',
    ({ number, files }) => {
      expect(files.length).toBeGreaterThan(0)
      for (const file of files) expect(existsSync(join(top, file)), file).toBe(true)
      if (number.startsWith('P')) return
      // What is kept so by construction names its check in the third column, under the word "by".
      const isByCheck = rows.find(row => row.number === number)?.cells[3]?.startsWith('by check:')
      if (isByCheck) return
      // This one holds the page itself to what it says.
      for (const file of files.filter(each => each !== 'scripts/traps.test.ts'))
        expect(readFileSync(join(top, file), 'utf8'), file).toMatch(new RegExp(`\\b${number}\\b`))
    },
  )

  it('names an end-to-end test, with its title, for each thing that was seen live with the nearest peer', () => {
    const from = page.indexOf('\n## Seen live with the nearest peer')
    const section = page.slice(from, page.indexOf('\n## ', from + 1))
    const seen = [...section.matchAll(/^\| [^|]+ \| `(test\/e2e\/[^`]+)` \| ([^|]+) \|$/gm)]
    expect(seen).toHaveLength(11)
    for (const [, file = '', title = ''] of seen) {
      expect(readFileSync(join(top, file), 'utf8').includes(`'${title}',`), title).toBe(true)
    }
  })

  it('leaves out no number that stands in a title of these parts', () => {
    const known = new Set(rows.map(({ number }) => number))
    const untold = new Set<string>()
    for (const folder of [
      ...['test/e2e/enrolment', 'test/e2e/sessions', 'test/e2e/trust', 'test/e2e/apply', 'test/lab/safety'],
      ...['agent/operation', 'agent/plan', 'agent/safety', 'agent/gates', 'coordinator/operations'],
      ...['agent/drivers', 'agent/drivers/k0s', 'agent/drivers/k3s', 'agent/drivers/kubernetes'],
      ...['agent/clusters', 'coordinator/clusters', 'test/nix/clusters'],
    ]) {
      for (const file of readdirSync(join(top, folder)).filter(name => name.endsWith('.ts'))) {
        const text = readFileSync(join(top, folder, file), 'utf8')
        for (const [, title = ''] of text.matchAll(/(?:it|describe|test)\(\s*['"`]([^'"`]*)/g)) {
          for (const [number] of title.matchAll(/\b[TNKR][0-9]{1,2}\b/g)) {
            if (!known.has(number)) untold.add(`${number} in ${folder}/${file}`)
          }
        }
      }
    }
    expect([...untold]).toEqual([])
  })
})
