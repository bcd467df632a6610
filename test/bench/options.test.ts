import { describe, expect, it } from 'vitest'
import { MEASURES, parseOptions } from './options.ts'

describe('the command line of the benchmark', () => {
  it('emulates a thousand agents unless told otherwise', () => {
    expect(parseOptions([])).toEqual({
      agents: 1000,
      json: undefined,
      profile: undefined,
      only: new Set(MEASURES),
    })
    expect(parseOptions(['--agents', '3000', '--json', 'out.json'])).toMatchObject({
      agents: 3000,
      json: 'out.json',
    })
    expect(parseOptions(['--help'])).toBe('help')
  })

  it.each(['0', '19', '10001', '1.5', 'many', ''])('refuses --agents %j', text => {
    expect(() => parseOptions(['--agents', text])).toThrow('--agents: wanted a whole number')
  })

  it('measures only what it is told to', () => {
    expect(parseOptions(['--only', 'memory,fanout'])).toMatchObject({ only: new Set(['memory', 'fanout']) })
    for (const text of ['', 'memory,', 'memory, fanout', 'speed']) {
      expect(() => parseOptions(['--only', text])).toThrow('--only: wanted some of enrolments, memory')
    }
  })

  it('refuses what it does not know', () => {
    expect(() => parseOptions(['--agent', '5'])).toThrow()
  })
})
