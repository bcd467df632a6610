import { chmod, mkdir, mkdtemp, readdir, readFile, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Fleet } from '../../support/fleet.ts'
import { freePort } from '../../support/free-port.ts'
import { makeToken, untilActive } from '../../support/shown.ts'

let fleet: Fleet
let secret: string
const umask = process.umask()

/** Processes that let others do everything, in state folders that others made and left open. */
beforeAll(async () => {
  process.umask(0)
  const dir = await mkdtemp(join(tmpdir(), 'mf-'))
  fleet = new Fleet(dir, await freePort(), await freePort(), {})
  for (const folder of [fleet.coordinatorState, join(dir, 'a/olaf/s')]) {
    await mkdir(folder, { recursive: true })
    await chmod(folder, 0o755)
  }
  await fleet.startCoordinator()
  const token = await makeToken(fleet)
  secret = token.split('.')[1] ?? ''
  const agent = await fleet.addAgent('olaf', { token, config: { logLevel: 'debug' } })
  await untilActive(fleet, agent)
})
afterAll(async () => {
  process.umask(umask)
  await fleet?.[Symbol.asyncDispose]()
})

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
}

/** Arguments and environment of the process that holds a state folder. */
async function ofProcess(stateDir: string): Promise<string[]> {
  const { pid } = JSON.parse(await readFile(join(stateDir, 'lock.1'), 'utf8'))
  return await Promise.all(['cmdline', 'environ'].map(name => readFile(`/proc/${pid}/${name}`, 'latin1')))
}

describe('what coordinator and agent keep', () => {
  it('is for nobody else, even with no umask and in folders that were open', async () => {
    for (const folder of [fleet.coordinatorState, fleet.agents[0]?.stateDir ?? '']) {
      expect((await stat(folder)).mode & 0o077).toBe(0)
      const open: string[] = []
      for (const file of await filesBelow(folder)) {
        if (((await stat(file)).mode & 0o077) !== 0) open.push(file)
      }
      expect(open).toEqual([])
    }
  })

  it('T66: holds a token’s secret nowhere: not in the store, nor in a log, an argument or an event', async () => {
    expect(secret.length).toBeGreaterThan(40)
    const agent = fleet.agents[0]
    const texts = [
      ...(await Promise.all(
        (await filesBelow(fleet.coordinatorState)).map(file => readFile(file, 'latin1')),
      )),
      ...(await Promise.all((await filesBelow(agent?.stateDir ?? '')).map(file => readFile(file, 'latin1')))),
      ...[fleet.coordinator, agent?.program].flatMap(program => [
        program?.stdout ?? '',
        program?.stderr ?? '',
      ]),
      ...(await ofProcess(fleet.coordinatorState)),
      ...(await ofProcess(agent?.stateDir ?? '')),
      JSON.stringify((await fleet.api.listEvents({ limit: 1_000 })).events.map(({ reason }) => reason)),
    ]
    expect(texts.some(text => text.includes('enrolled') || text.includes('coordinator ready'))).toBe(true)
    expect(texts.filter(text => text.includes(secret))).toEqual([])
    const keys = texts.filter(text => text.includes('PRIVATE KEY'))
    // The authority's own file and the machine's own key.
    expect(keys).toHaveLength(2)
  })
})
