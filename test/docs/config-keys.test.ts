import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseConfig as parseAgent } from '../../agent/config.ts'
import { parseConfig as parseCoordinator } from '../../coordinator/config.ts'
import { cellsOf, readPage, top } from './pages.ts'

/** Key and default of each row of the table of settings. */
function documentedKeys(page: string): Map<string, string> {
  const lines = readPage(page).split('\n')
  const start = lines.findIndex(line => /^\| key \| default \|/.test(line))
  const rows = lines.slice(start + 2)
  const end = rows.findIndex(line => cellsOf(line) === undefined)
  return new Map(
    rows.slice(0, end).map(line => {
      const [key = '', fallback = ''] = cellsOf(line) ?? []
      return [key.replaceAll('`', ''), fallback.replaceAll('`', '')]
    }),
  )
}

function messageOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  throw new Error('nothing was thrown')
}

/** All keys of a parsed configuration; keys of inner objects as "outer.inner". */
function keysOf(value: object, place = ''): [key: string, value: unknown][] {
  return Object.entries(value).flatMap(([key, inner]): [string, unknown][] =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? keysOf(inner, `${place}${key}.`)
      : [[place + key, inner]],
  )
}

describe('docs/reference/coordinator.md', () => {
  const documented = documentedKeys('docs/reference/coordinator.md')
  // Keys without a default are in no parsed configuration, so the schema's own text is read.
  const source = readFileSync(join(top, 'coordinator/config.ts'), 'utf8')
  const schema = /const schema = z\.strictObject\(\{\n([\s\S]*?)\n\}\)/.exec(source)?.[1] ?? ''
  const outer = [...schema.matchAll(/^ {2}(\w+):/gm)].map(([, key = '']) => key)
  const retention = [...schema.matchAll(/^ {6}(\w+):/gm)].map(([, key = '']) => `retention.${key}`)
  const known = [...outer.filter(key => key !== 'retention'), ...retention]

  it('has exactly the keys that the coordinator reads', () => {
    expect([...documented.keys()].toSorted()).toEqual(known.toSorted())
    const parsed = keysOf(parseCoordinator({}, 'x')).map(([key]) => key)
    expect(parsed.filter(key => !known.includes(key))).toEqual([])
  })

  it('has keys that the coordinator knows, each by its own name', () => {
    for (const key of documented.keys()) {
      const [head = '', inner] = key.split('.')
      const wrong = inner === undefined ? { [head]: true } : { [head]: { [inner]: true } }
      expect(
        messageOf(() => parseCoordinator(wrong, 'x')),
        key,
      ).toContain(`x: ${key}: `)
    }
    expect(messageOf(() => parseCoordinator({ other: true }, 'x'))).toContain('other')
  })

  it('tells the defaults', () => {
    const defaults = new Map(keysOf(parseCoordinator({}, 'x')))
    for (const [key, told] of documented) {
      const value = defaults.get(key)
      if (typeof value === 'number') expect(told, key).toBe(String(value))
      if (typeof value === 'string' && key !== 'socket') expect(told, key).toBe(value)
    }
  })
})

describe('docs/reference/agent.md', () => {
  const documented = documentedKeys('docs/reference/agent.md')
  const knownIn = (wrong: object): string[] => {
    const message = messageOf(() => parseAgent('x', { coordinator: 'a:1', ...wrong }))
    return (/known are (.*)/.exec(message)?.[1] ?? '').split(', ')
  }
  const groups = ['sourceBuild', 'retry', 'deadlines', 'generations']
  const known = [
    ...knownIn({ bogus: 1 }).filter(key => !groups.includes(key)),
    ...groups.flatMap(group => knownIn({ [group]: { bogus: 1 } }).map(key => `${group}.${key}`)),
  ]

  it('has exactly the keys that the agent reads', () => {
    expect([...documented.keys()].toSorted()).toEqual(known.toSorted())
  })

  it('tells the defaults', () => {
    const defaults = new Map(keysOf(parseAgent('x', { coordinator: 'a:1', caPin: 'a'.repeat(64) })))
    for (const [key, told] of documented) {
      const value = defaults.get(key)
      if (typeof value === 'number' || typeof value === 'boolean') expect(told, key).toBe(String(value))
      if (typeof value === 'string' && !['coordinator', 'caPin', 'toolPath', 'console'].includes(key)) {
        expect(told, key).toBe(value)
      }
    }
  })
})
