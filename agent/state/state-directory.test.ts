import { spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { countBoot, FRESH_STATE, parseState } from './agent-state.ts'
import { openStateDirectory } from './state-directory.ts'
import { StateError } from './state-error.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ma-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const open = (bootId = 'boot-1') => openStateDirectory(join(folder, 's'), { keyBits: 2048, bootId })

describe('the state directory', () => {
  it('T13: counts a boot once, however often the agent starts in it, and never falls', async () => {
    const counts: number[] = []
    for (const boot of ['a', 'a', 'b', 'b', 'a']) {
      await using directory = await open(boot)
      counts.push(directory.state.current.bootCount)
    }
    expect(counts).toEqual([1, 1, 2, 2, 3])
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', 'c')), boots => {
        let state = FRESH_STATE
        for (const boot of boots) {
          const next = countBoot(state, boot)
          expect(next.bootCount - state.bootCount).toBe(boot === state.bootId ? 0 : 1)
          state = next
        }
      }),
    )
  })

  it('refuses a second agent, and takes over from one that was killed', async () => {
    const path = join(folder, 's')
    await using first = await open()
    await expect(open()).rejects.toThrow(`is in use by process ${process.pid}`)
    await first[Symbol.asyncDispose]()
    const dead = spawn('true')
    await new Promise(resolve => dead.once('exit', resolve))
    const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
    // The number of the dead process now belongs to this one: the start time tells them apart.
    await writeFile(join(path, 'lock.1'), JSON.stringify({ pid: process.pid, started: '1', bootId }))
    await using second = await open()
    expect(second.identity.id).toBe(first.identity.id)
    expect((await readdir(path)).filter(name => name.includes('lock'))).toEqual(['lock.2', 'lock.spare'])
  })

  it('T11: refuses when a file that was there is missing, and never starts afresh by itself', async () => {
    const path = join(folder, 's')
    const { machine } = await (async () => {
      await using directory = await open()
      return { machine: directory.identity.id }
    })()
    const state = await readFile(join(path, 'state.json'))
    const key = await readFile(join(path, 'key.pem'))
    await rm(join(path, 'key.pem'))
    await expect(open()).rejects.toThrow('key.pem: is missing, and this machine was known by it')
    await writeFile(join(path, 'key.pem'), key)
    await rm(join(path, 'state.json'))
    await expect(open()).rejects.toThrow('state.json is missing beside key.pem')
    await writeFile(join(path, 'state.json'), state)
    await using directory = await open()
    expect(directory.identity.id).toBe(machine)
  })

  it('T11: refuses state.json and key.pem cut at any length or with rubbish in them', async () => {
    const path = join(folder, 's')
    await (await open())[Symbol.asyncDispose]()
    const state = await readFile(join(path, 'state.json'), 'utf8')
    for (const length of [0, 1, state.length / 2, state.length - 3].map(Math.floor)) {
      await writeFile(join(path, 'state.json'), state.slice(0, length))
      await expect(open()).rejects.toThrow(StateError)
    }
    await writeFile(join(path, 'state.json'), state)
    await writeFile(join(path, 'key.pem'), 'rubbish')
    await expect(open()).rejects.toThrow('key.pem: is no usable key')
    fc.assert(
      fc.property(fc.jsonValue(), value => {
        expect(() => parseState('state.json', JSON.stringify(value))).toThrow(StateError)
      }),
    )
  })

  it('T18: takes up a first start that was cut short after the key', async () => {
    const path = join(folder, 's')
    const first = await open()
    await first[Symbol.asyncDispose]()
    const { machine: _, ...rest } = JSON.parse(await readFile(join(path, 'state.json'), 'utf8'))
    await writeFile(join(path, 'state.json'), JSON.stringify(rest))
    await using again = await open()
    expect(again.identity.id).toBe(first.identity.id)
    expect(again.state.current.machine).toBe(first.identity.id)
  })

  it('closes the directory and the key to others', async () => {
    await mkdir(join(folder, 's'), { mode: 0o755 })
    await chmod(join(folder, 's'), 0o755)
    await using directory = await open()
    const { stat } = await import('node:fs/promises')
    expect((await stat(directory.path)).mode & 0o777).toBe(0o700)
    expect((await stat(join(directory.path, 'key.pem'))).mode & 0o777).toBe(0o600)
  })

  it('applies changes one after the other and loses none', async () => {
    await using directory = await open()
    const { state } = directory
    await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        state.update(before => ({ ...before, events: [...before.events, { class: 'x', reason: '', at }] })),
      ),
    )
    const read = parseState('state.json', await readFile(join(directory.path, 'state.json'), 'utf8'))
    expect(read.events.map(event => event.at)).toEqual(Array.from({ length: 20 }, (_, at) => at))
    expect(read).toEqual(state.current)
  })
})
