import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { makeDirectories } from './make-directories.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-folders-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

it('makes what is missing, with its mode, and says what was made', async () => {
  expect(await makeDirectories(join(folder, 'a/b/c'), 0o700)).toBe(join(folder, 'a'))
  for (const path of ['a', 'a/b', 'a/b/c']) expect((await stat(join(folder, path))).mode & 0o777).toBe(0o700)
  expect(await makeDirectories(join(folder, 'a/b/c'))).toBeUndefined()
  expect(await makeDirectories(join(folder, 'a/b/d/'))).toBe(join(folder, 'a/b/d/'))
  await symlink(join(folder, 'a'), join(folder, 'link'))
  expect(await makeDirectories(join(folder, 'link'))).toBeUndefined()
})

it('refuses a file, a place below one, and a link to nothing', async () => {
  await writeFile(join(folder, 'file'), '')
  await symlink(join(folder, 'nothing'), join(folder, 'link'))
  await expect(makeDirectories(join(folder, 'file'))).rejects.toMatchObject({ code: 'EEXIST' })
  await expect(makeDirectories(join(folder, 'file/a/b'))).rejects.toMatchObject({ code: 'ENOTDIR' })
  await expect(makeDirectories(join(folder, 'link/a'))).rejects.toMatchObject({ code: 'ENOENT' })
})

it('several at once make it once', async () => {
  const made = await Promise.all(Array.from({ length: 20 }, () => makeDirectories(join(folder, 'x/y/z'))))
  expect(made.filter(path => path !== undefined).length).toBeGreaterThan(0)
  expect((await stat(join(folder, 'x/y/z'))).isDirectory()).toBe(true)
})

it.runIf(process.platform === 'linux')('ends where the kernel makes no folder', async () => {
  for (const path of ['/proc/muster', '/proc/muster/state', '/proc/self/muster']) {
    await expect(makeDirectories(path), path).rejects.toMatchObject({ code: 'ENOENT' })
  }
})
