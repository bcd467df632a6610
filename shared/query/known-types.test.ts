import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { VARIABLE_NAMES } from './expression.ts'
import { type Known, VARIABLE_TYPES } from './known-types.ts'

const page = await readFile(join(import.meta.dirname, '../../docs/reference/query.md'), 'utf8')
const rows = [...page.matchAll(/^\| `([a-z]+)(?:\.([^`]+))?` \| ([^|]+) \|/gm)].filter(([, name]) =>
  VARIABLE_NAMES.some(known => known === name && known !== 'live'),
)

function typeAt(start: Known, path: string | undefined): Known {
  let at = start
  for (const part of path?.split('.') ?? []) {
    const field = part.replace('[]', '')
    at = at?.kind === 'object' ? at.fieldOf(field) : undefined
    if (part !== field) at = at?.kind === 'list' ? at.of : undefined
  }
  return at
}

function wordOf(known: Known): string {
  if (known?.kind === 'list') return `list of ${wordOf(known.of)}`
  return known?.kind === 'map' ? 'texts by name' : (known?.kind ?? 'nothing known')
}

describe('what is known of variables', () => {
  it('is what docs/reference/query.md says of them', () => {
    expect(rows.length).toBeGreaterThan(100)
    for (const [, name = '', path, type] of rows) {
      const known = typeAt(VARIABLE_TYPES.get(name), path)
      expect([name, path, wordOf(known)]).toEqual([name, path, type])
    }
  })

  it('has no field that the page lacks', () => {
    for (const name of ['machine', 'status', 'cluster']) {
      const known = VARIABLE_TYPES.get(name)
      const told = rows.filter(([, of]) => of === name).map(([, , field]) => field)
      expect(known?.kind === 'object' ? known.names : []).toEqual(told)
    }
  })
})
