import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../config.ts'
import { readPlaces } from './read-places.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'places-'))
})
afterAll(() => rm(dir, { recursive: true }))

async function written(text: string): Promise<string> {
  const file = join(dir, 'agent.json')
  await writeFile(file, text)
  return file
}

describe('what a boot reads of the agent’s configuration', () => {
  const good = { coordinator: 'c.home:7443', stateDir: '/var/lib/muster', deadlines: { bootMs: 90_000 } }

  it('is what the agent reads of it, and what the command line says wins', async () => {
    const file = await written(JSON.stringify(good))
    const { stateDir, deadlines } = await loadConfig(file)
    expect(await readPlaces(file)).toEqual({ stateDir, bootMs: deadlines.bootMs, problems: [] })
    const flags = { stateDir: '/srv/state', deadlines: { bootMs: 5_000 } }
    expect(await readPlaces(file, flags)).toMatchObject({ stateDir: '/srv/state', bootMs: 5_000 })
    const least = await written(JSON.stringify({ coordinator: 'c.home:7443' }))
    const usual = await loadConfig(least)
    expect(await readPlaces(least)).toEqual({
      stateDir: usual.stateDir,
      bootMs: usual.deadlines.bootMs,
      problems: [],
    })
  })

  it.each([
    ['has a key that no agent knows', { logLvl: 'debug' }],
    ['has a value that it does not take', { deadlines: { bootMs: 90_000, switchMs: 'long' } }],
    ['lacks the coordinator', { coordinator: undefined }],
  ])('is enough for the dead man where it %s, with which no agent starts', async (_, change) => {
    const file = await written(JSON.stringify({ ...good, ...change }))
    await expect(loadConfig(file)).rejects.toThrow()
    expect(await readPlaces(file)).toEqual({ stateDir: '/var/lib/muster', bootMs: 90_000, problems: [] })
  })

  it('is the usual place where nothing can be read of it, and says so', async () => {
    for (const text of ['', '[]', 'null', '{"stateDir":7}']) {
      const places = await readPlaces(await written(text))
      expect(places).toMatchObject({ stateDir: '/var/lib/muster-agent', bootMs: 600_000 })
    }
    expect((await readPlaces(join(dir, 'nowhere'))).problems).toEqual([
      expect.stringContaining('nowhere: cannot be read'),
    ])
    expect((await readPlaces(await written('{"stateDir":7}'))).problems).toEqual([
      expect.stringContaining('stateDir: is not usable'),
    ])
  })
})
