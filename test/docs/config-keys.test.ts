import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  HELP as AGENT_HELP,
  OPTIONS as AGENT_OPTIONS,
  LOCAL_VERBS,
  readArguments,
} from '../../agent/arguments.ts'
import { parseConfig as parseAgent } from '../../agent/config.ts'
import { isFactsChild } from '../../agent/facts/child-arguments.ts'
import { HELP as COORDINATOR_HELP, OPTIONS as COORDINATOR_OPTIONS } from '../../coordinator/arguments.ts'
import { parseConfig as parseCoordinator } from '../../coordinator/config.ts'
import { cellsOf, readPage, top } from './pages.ts'

/** The rows of the first table of a page whose head begins so; cells without their quotes. */
function tableOf(page: string, head: string): string[][] {
  const lines = readPage(page).split('\n')
  const start = lines.findIndex(line => line.startsWith(head))
  const rows = lines.slice(start + 2)
  const end = rows.findIndex(line => cellsOf(line) === undefined)
  return rows
    .slice(0, end)
    .map(line => (cellsOf(line) ?? []).map(cell => cell.replaceAll('`', '').replaceAll('\\|', '|')))
}

/** Options that a text names. */
const optionsIn = (text: string): string[] => text.match(/(?<![\w-])--[a-z][a-z-]*/g) ?? []

/** Of each option of a help its default, where the help tells one. */
function helpDefaults(help: string): [option: string, told: string][] {
  return help.split('\n').flatMap((line): [string, string][] => {
    const [, option, told] = /^ {2}(--[a-z-]+) .*\(default: ([^)]*)\)$/.exec(line) ?? []
    return option === undefined || told === undefined ? [] : [[option, told]]
  })
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
  const page = 'docs/reference/coordinator.md'
  const documented = new Map(
    tableOf(page, '| key | default |').map(([key = '', fallback = '']) => [key, fallback]),
  )
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

  it('has the options of the program and of its help, with their defaults', () => {
    const rows = tableOf(page, '| option | default |')
    const options = rows.flatMap(([option = '']) => optionsIn(option))
    expect(options.toSorted()).toEqual(
      Object.keys(COORDINATOR_OPTIONS)
        .map(name => `--${name}`)
        .toSorted(),
    )
    expect([...new Set(optionsIn(COORDINATOR_HELP))].toSorted()).toEqual(options.toSorted())
    for (const [option, told] of helpDefaults(COORDINATOR_HELP)) {
      const row = rows.find(([named = '']) => optionsIn(named).includes(option))
      expect(told, option).toContain(row?.[1])
    }
    expect(parseCoordinator({}, 'x').stateDir).toBe(
      rows.find(([option]) => option?.startsWith('--state-dir'))?.[1],
    )
  })
})

describe('docs/reference/agent.md', () => {
  const page = 'docs/reference/agent.md'
  const rows = tableOf(page, '| key | option | default |')
  const documented = new Map(rows.map(([key = '', , fallback = '']) => [key, fallback]))
  const commands = tableOf(page, '| command | does |').map(([command = '']) => command)
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
      if (Array.isArray(value)) expect(JSON.parse(told), key).toEqual(value)
    }
  })

  it('has of each key the option by which the program takes it', () => {
    for (const [key = '', option = ''] of rows) {
      if (option === 'none') continue
      const name = option.replace(/^--/, '')
      const isFlag = Object.entries(AGENT_OPTIONS).some(
        ([known, { type }]) => known === name && type === 'boolean',
      )
      const told = readArguments(isFlag ? [option] : [option, 'true'])
      if (told.command !== 'run') throw new Error(`${option} is no option of run`)
      expect(keysOf(told.flags).map(([known]) => known)).toEqual([key])
    }
  })

  it('has every option of the program, and so has its help', () => {
    const options = [...rows.map(([, option = '']) => option), ...commands].flatMap(optionsIn)
    // Those of the child that reads facts are told with its commands.
    const ofTheChild = ['--root']
    const ofItsUnits = ['--operation', '--round']
    const known = Object.keys(AGENT_OPTIONS).map(name => `--${name}`)
    expect([...new Set(options)].toSorted()).toEqual(
      [...known, ...ofTheChild].filter(option => !ofItsUnits.includes(option)).toSorted(),
    )
    expect([...new Set(optionsIn(AGENT_HELP))].toSorted()).toEqual([...new Set(options)].toSorted())
  })

  it('has every command of the help, each of which the program knows', () => {
    const usage = AGENT_HELP.split('\n').flatMap(
      line => /^ {2}(muster-agent .*?)(?: {2,}.*| \[options\].*)?$/.exec(line)?.[1] ?? [],
    )
    expect(commands).toEqual(usage)
    for (const line of usage) {
      const words = line.split(' ').filter(word => /^[a-z][a-z-]*$/.test(word))
      const [, ...said] = [...words, ...(line.includes(' FILE') && words.includes('set') ? ['FILE'] : [])]
      if (!isFactsChild(said)) expect(() => readArguments(said), line).not.toThrow()
    }
    for (const verb of LOCAL_VERBS)
      expect(
        usage.some(line => line.startsWith(`muster-agent ${verb}`)),
        verb,
      ).toBe(true)
  })

  it('has the defaults that the help tells', () => {
    const flags = new Map(rows.map(([, option = '', fallback = '']) => [option, fallback]))
    const told = helpDefaults(AGENT_HELP)
    expect(told.map(([option]) => option)).toContain('--allow')
    for (const [option, fallback] of told) {
      expect(fallback.split(','), option).toEqual(JSON.parse(flags.get(option) ?? '""'))
    }
  })
})
