import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { makeNewFile } from './private-file.ts'

const folder = await mkdtemp(join(tmpdir(), 'muster-private-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('a new file', () => {
  it('has its place before what it holds is made, and nothing is made where it has none', async () => {
    const path = join(folder, 'token')
    let seen: string[] = []
    const make = async () => {
      seen = [...seen, ...(await readdir(folder))]
      return 'secret'
    }
    expect(await makeNewFile(path, 0o600, make)).toBe(true)
    expect(seen).toEqual(['token'])
    expect([await readFile(path, 'utf8'), (await stat(path)).mode & 0o777]).toEqual(['secret', 0o600])
    await expect(makeNewFile(path, 0o600, make)).rejects.toThrow('is there already')
    await expect(makeNewFile(join(folder, 'none', 'x'), 0o600, make)).rejects.toThrow('its folder')
    expect(seen).toEqual(['token'])
    expect(await readFile(path, 'utf8')).toBe('secret')
  })

  it('is not there when nothing was made', async () => {
    const path = join(folder, 'empty')
    expect(await makeNewFile(path, 0o600, async () => undefined)).toBe(false)
    const failing = makeNewFile(path, 0o600, async () => {
      throw new Error('the coordinator said no')
    })
    await expect(failing).rejects.toThrow('said no')
    await expect(stat(path)).rejects.toThrow('ENOENT')
  })
})
