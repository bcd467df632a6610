import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LockError, lockDirectory, readBootId } from './process-lock.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-lock-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** The only lock in the folder, or the first. */
const lockPath = (number = 1) => join(folder, `lock.${number}`)

describe('the lock of a folder', () => {
  it('refuses a second holder and names the first, until that one lets go', async () => {
    const first = await lockDirectory(folder, 'coordinator')
    const refused = lockDirectory(folder, 'coordinator')
    await expect(refused).rejects.toThrow(LockError)
    await expect(refused).rejects.toThrow(
      `${folder}: is in use by process ${process.pid}; a state directory belongs to one coordinator at a time`,
    )
    expect((await stat(lockPath())).mode & 0o777).toBe(0o600)
    await first[Symbol.asyncDispose]()
    expect(await readFile(lockPath(), 'utf8')).toBe('released\n')
    await using _second = await lockDirectory(folder, 'coordinator')
    expect(await readdir(folder)).toEqual(['lock.2', 'lock.spare'])
  })

  it('goes to exactly one of many, also over one that was left behind', async () => {
    await writeFile(lockPath(), JSON.stringify({ pid: 1, started: 'x', bootId: 'another boot' }))
    for (let round = 0; round < 20; round++) {
      const tries = await Promise.allSettled(Array.from({ length: 20 }, () => lockDirectory(folder, 'agent')))
      const locks = tries.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
      expect(locks).toHaveLength(1)
      expect(await readdir(folder)).toEqual([`lock.${round + 2}`, 'lock.spare'])
      await locks[0]?.[Symbol.asyncDispose]()
    }
  })

  it('T47: tells a process from another that has its number, by start time and boot', async () => {
    const holder = JSON.parse(await heldText())
    for (const [index, gone] of [{ started: '1' }, { bootId: 'another boot' }, { pid: 2 ** 30 }].entries()) {
      await writeFile(lockPath(index + 1), JSON.stringify({ ...holder, ...gone }))
      const lock = await lockDirectory(folder, 'agent')
      await lock[Symbol.asyncDispose]()
    }
    await writeFile(lockPath(4), JSON.stringify(holder))
    await expect(lockDirectory(folder, 'agent')).rejects.toThrow('is in use')
    expect(holder.bootId).toBe(await readBootId())
  })

  it.each(['rubbish', '{}', '[]', 'null', '{"pid":"1","started":"1","bootId":"b"}'])(
    'T11: refuses one that it cannot understand and says what to do: %s',
    async text => {
      await writeFile(lockPath(), text)
      await expect(lockDirectory(folder, 'muster-agent')).rejects.toThrow(
        `${lockPath()}: cannot be understood; if no muster-agent runs here, remove this file`,
      )
      expect(await readFile(lockPath(), 'utf8')).toBe(text)
    },
  )

  it.each(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])(
    'is refused, with the place and the cure, on a file system without hard links, which answers %s',
    async code => {
      const makeLink = () => Promise.reject(Object.assign(new Error(`${code}: link`), { code }))
      const refused = lockDirectory(folder, 'muster-agent', makeLink)
      await expect(refused).rejects.toThrow(LockError)
      await expect(refused).rejects.toThrow(`${folder}: its file system makes no hard links (${code}: link)`)
      await expect(refused).rejects.toThrow('put it on a file system with owners and hard links')
      expect(await readdir(folder)).toEqual([])
    },
  )

  it('passes on what else keeps a link from being made', async () => {
    const full = Object.assign(new Error('no room'), { code: 'ENOSPC' })
    await expect(lockDirectory(folder, 'muster-agent', () => Promise.reject(full))).rejects.toBe(full)
  })

  it.each(['', '\0'.repeat(80)])('T47: takes over one whose content was lost with the power', async text => {
    await writeFile(lockPath(), text)
    const lock = await lockDirectory(folder, 'muster-agent')
    expect(await readFile(lockPath(2), 'utf8')).toContain(`"pid":${process.pid}`)
    await lock[Symbol.asyncDispose]()
  })

  it('T48: does not take away a lock that became another one', async () => {
    const lock = await lockDirectory(folder, 'agent')
    await writeFile(lockPath(), 'of somebody else')
    await lock[Symbol.asyncDispose]()
    expect(await readFile(lockPath(), 'utf8')).toBe('of somebody else')
  })

  it('T18, T47: is taken over from a process that was killed', async () => {
    const program = `
      const { lockDirectory } = await import(${JSON.stringify(join(import.meta.dirname, 'process-lock.ts'))})
      await lockDirectory(${JSON.stringify(folder)}, 'agent')
      setInterval(() => {}, 1000)
      console.log('locked')`
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      cwd: join(import.meta.dirname, '..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      await once(child.stdout, 'data')
      await expect(lockDirectory(folder, 'agent')).rejects.toThrow(`is in use by process ${child.pid}`)
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      await using _lock = await lockDirectory(folder, 'agent')
      expect(JSON.parse(await readFile(lockPath(2), 'utf8'))).toMatchObject({ pid: process.pid })
    } finally {
      child.kill('SIGKILL')
    }
  })
})

/** What this process writes into a lock it holds. */
async function heldText(): Promise<string> {
  await using _lock = await lockDirectory(folder, 'agent')
  return await readFile(lockPath(), 'utf8')
}
