import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { makePrivateDirectory, readFileIfThere, writeFileDurably } from './durable-file.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-durable-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('a durable file', () => {
  it('is replaced whole, is closed to others, and leaves nothing beside it', async () => {
    const path = join(folder, 'state')
    await writeFileDurably(path, 'old')
    await writeFileDurably(path, Buffer.from('new'))
    expect(await readFile(path, 'utf8')).toBe('new')
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    await writeFileDurably(path, 'open', 0o644)
    expect((await stat(path)).mode & 0o777).toBe(0o644)
    expect(await readdir(folder)).toEqual(['state'])
  })

  it('replaces a link and leaves alone what the link names', async () => {
    await writeFile(join(folder, 'other'), 'untouched')
    await symlink('other', join(folder, 'state'))
    await writeFileDurably(join(folder, 'state'), 'new')
    expect(await readFile(join(folder, 'other'), 'utf8')).toBe('untouched')
    expect(await readFile(join(folder, 'state'), 'utf8')).toBe('new')
  })

  it('keeps one whole content of many that are written at once', async () => {
    const path = join(folder, 'state')
    const contents = Array.from({ length: 20 }, (_, index) => String(index).repeat(50_000))
    await Promise.all(contents.map(content => writeFileDurably(path, content)))
    expect(contents).toContain(await readFile(path, 'utf8'))
    expect(await readdir(folder)).toEqual(['state'])
  })

  it('stays as it was when it cannot be written', async () => {
    await mkdir(join(folder, 'state'))
    await expect(writeFileDurably(join(folder, 'state'), 'new')).rejects.toThrow()
    expect((await stat(join(folder, 'state'))).isDirectory()).toBe(true)
    await expect(writeFileDurably(join(folder, 'nowhere/state'), 'new')).rejects.toThrow('ENOENT')
  })

  it('T18: stands whole when its writer is killed at any moment', async () => {
    const path = join(folder, 'state')
    await writeFile(path, 'a'.repeat(300_000))
    const program = `
      const { writeFileDurably } = await import(${JSON.stringify(join(import.meta.dirname, 'durable-file.ts'))})
      console.log('ready')
      for (let turn = 0; ; turn++) {
        await writeFileDurably(${JSON.stringify(path)}, 'ab'[turn % 2].repeat(300_000))
      }`
    for (const afterMs of [0, 7, 30]) {
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
        cwd: join(import.meta.dirname, '..'),
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      const ended = once(child, 'exit')
      setTimeout(() => child.kill('SIGKILL'), afterMs)
      expect(await ended).toEqual([null, 'SIGKILL'])
      expect(await readFile(path, 'utf8')).toMatch(/^(a{300000}|b{300000})$/)
    }
  })
})

describe('reading what may be missing', () => {
  it('tells a missing file from one that cannot be read', async () => {
    expect(await readFileIfThere(join(folder, 'none'))).toBeUndefined()
    await writeFile(join(folder, 'empty'), '')
    expect(await readFileIfThere(join(folder, 'empty'))).toEqual(Buffer.alloc(0))
    await expect(readFileIfThere(folder)).rejects.toThrow('EISDIR')
    await expect(readFileIfThere(join(folder, 'empty/below'))).rejects.toThrow('ENOTDIR')
  })
})

describe('a private folder', () => {
  it('is open to its owner alone, and may be there already', async () => {
    const path = join(folder, 'a/b')
    await makePrivateDirectory(path)
    await makePrivateDirectory(path)
    expect((await stat(path)).mode & 0o777).toBe(0o700)
  })
})
