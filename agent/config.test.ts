import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readArguments } from './arguments.ts'
import { loadConfig, parseConfig } from './config.ts'
import { ConfigError } from './config-fields.ts'

const least = { coordinator: 'hub.example:7701' }
const messageOf = (value: unknown) => {
  try {
    parseConfig('agent.json', value)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return String(error)
  }
  return 'accepted'
}

describe('parseConfig', () => {
  it('fills in what is not said', () => {
    expect(parseConfig('agent.json', least)).toMatchObject({
      stateDir: '/var/lib/muster-agent',
      socket: '/run/muster-agent/agent.sock',
      allow: ['apply', 'join'],
      activation: 'switch',
      console: '/dev/console',
      retry: { firstMs: 1000, mostMs: 300_000, connectMs: 30_000 },
      keyBits: 3072,
    })
  })

  it('takes what the NixOS module writes', () => {
    const config = parseConfig('agent.json', {
      coordinator: '[fd00::1]:7443',
      caPin: 'a'.repeat(64),
      trustPin: 'b'.repeat(64),
      stateDir: '/var/lib/muster-agent',
      allow: ['apply', 'rollback', 'reboot', 'drain'],
      activation: 'never',
      tokenFile: '/run/credentials/muster-agent.service/token',
      socket: '/run/muster-agent/agent.sock',
      sourceBuild: { enabled: false, leastMemoryBytes: 2147483648 },
    })
    expect(config.sourceBuild).toEqual({ enabled: false, leastMemoryBytes: 2147483648 })
    expect(config.allow).toEqual(['apply', 'rollback', 'reboot', 'drain'])
  })

  it.each([
    [{}, 'agent.json: coordinator: missing; must be host:port'],
    [[], 'agent.json: must be an object'],
    [{ ...least, coordinator: 'http://hub' }, 'coordinator: must be host:port'],
    [{ ...least, coordinator: 'hub:0' }, 'coordinator: must be host:port'],
    [{ ...least, caPin: 'ABC' }, 'caPin: must be 64 lower-case hex characters'],
    [{ ...least, capin: 'x' }, 'agent.json: capin: unknown key; known are activation, allow, caPin'],
    [{ ...least, retry: { first: 1 } }, 'agent.json: retry.first: unknown key; known are connectMs, firstMs'],
    [{ ...least, retry: 5 }, 'agent.json: retry: must be an object'],
    [{ ...least, retry: { firstMs: 0 } }, 'retry.firstMs: must be a whole number from 1'],
    [{ ...least, retry: { firstMs: 500, mostMs: 100 } }, 'retry.mostMs: must not be below retry.firstMs'],
    [{ ...least, storeDir: '/tmp/store' }, 'simulated: must be true where storeDir is given'],
    [{ ...least, allow: ['aply'] }, 'allow: "aply" is none of apply'],
    [{ ...least, activation: 'maybe' }, 'activation: must be one of switch, never'],
    [{ ...least, socket: `/${'x'.repeat(120)}` }, 'socket: must take at most 107 bytes'],
    [{ ...least, factsRoot: '/tmp/x' }, 'simulated: must be true where factsRoot'],
    [{ ...least, keyBits: 1024 }, 'keyBits: must be a whole number from 2048 to 4096'],
  ])('refuses %j, saying where and what would be right', (value, message) => {
    expect(messageOf(value)).toContain(message)
  })

  it('never accepts an unknown key, and never fails otherwise than with a ConfigError', () => {
    const known = Object.keys(parseConfig('agent.json', least))
    fc.assert(
      fc.property(
        fc.string().filter(key => !known.includes(key)),
        fc.jsonValue(),
        (key, value) => {
          expect(messageOf(Object.fromEntries([...Object.entries(least), [key, value]]))).toContain(
            'unknown key',
          )
        },
      ),
    )
    fc.assert(
      fc.property(fc.jsonValue(), value => {
        expect(messageOf(value)).not.toBe('accepted')
      }),
    )
  })
})

describe('the command line', () => {
  it('lays its options over the file', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'ma-'))
    try {
      const file = join(directory, 'agent.json')
      await writeFile(file, JSON.stringify({ ...least, retry: { firstMs: 5, mostMs: 50 }, keyBits: 4096 }))
      const read = readArguments([
        'run',
        '--config',
        file,
        '--retry-most-ms',
        '70',
        '--allow',
        'apply,reboot',
      ])
      if (read.command !== 'run') throw new Error('not run')
      const config = await loadConfig(read.configFile, read.flags)
      expect(config).toMatchObject({
        ...least,
        retry: { firstMs: 5, mostMs: 70 },
        keyBits: 4096,
        allow: ['apply', 'reboot'],
      })
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  it('refuses what is no number with the field’s name, and what it does not know with a hint', async () => {
    const read = readArguments(['--coordinator', 'hub:1', '--key-bits', 'many'])
    if (read.command !== 'run') throw new Error('not run')
    await expect(loadConfig(read.configFile, read.flags)).rejects.toThrow(
      'command line: keyBits: must be a whole',
    )
    expect(() => readArguments(['frobnicate'])).toThrow('--help lists')
    expect(() => readArguments(['--nope'])).toThrow('--help lists')
    expect(() => readArguments(['trust', 'set'])).toThrow('unknown command: trust set')
  })

  it('says which file cannot be read or is no JSON', async () => {
    await expect(loadConfig('/nonexistent/agent.json')).rejects.toThrow(
      '/nonexistent/agent.json: cannot be read',
    )
    await expect(loadConfig(join(import.meta.dirname, 'config.ts'))).rejects.toThrow('config.ts: is not JSON')
  })
})
