import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadConfig, parseConfig } from './config.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-config-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

async function fileOf(text: string): Promise<string> {
  const path = join(folder, 'coordinator.json')
  await writeFile(path, text)
  return path
}

describe('the configuration of the coordinator', () => {
  it('has a default for everything, and the socket stands in the state folder', async () => {
    expect(await loadConfig(undefined)).toMatchObject({
      stateDir: '/var/lib/muster-coordinator',
      socket: '/var/lib/muster-coordinator/coordinator.sock',
      enrolmentListen: '0.0.0.0:7443',
      fleetListen: '0.0.0.0:7444',
      heartbeatSeconds: 10,
      pendingMachines: 1_000,
      retention: { days: 90, logBytes: 1_000_000_000 },
    })
  })

  it('is read from a file, over which the command line wins', async () => {
    const path = await fileOf('{"stateDir": "/a", "names": ["hub.example"], "retention": {"days": 7}}')
    expect(await loadConfig(path, { stateDir: '/b' })).toMatchObject({
      stateDir: '/b',
      socket: '/b/coordinator.sock',
      names: ['hub.example'],
      retention: { days: 7, logBytes: 1_000_000_000 },
    })
  })

  it.each([
    ['enrolmentListen', { enrolmentListen: 7443 }],
    ['enrolmentListen', { enrolmentListen: '7443' }],
    ['fleetListen', { fleetListen: '::1:7444' }],
    ['fleetListen', { fleetListen: '0.0.0.0:65536' }],
    ['fleetAddress', { fleetAddress: 'hub.example' }],
    ['fleetAddress', { fleetAddress: 'hub.example:99999' }],
    ['names.1', { names: ['hub.example', ''] }],
    ['heartbeatSeconds', { heartbeatSeconds: 0 }],
    ['heartbeatSeconds', { heartbeatSeconds: '10' }],
    ['machineCertificateDays', { machineCertificateDays: 1000 }],
    ['challengeSeconds', { challengeSeconds: -1 }],
    ['pendingMachines', { pendingMachines: 1.5 }],
    ['stateDir', { stateDir: '' }],
    ['logLevel', { logLevel: 'loud' }],
    ['retention.days', { retention: { days: 0 } }],
    ['retention.logBytes', { retention: { logBytes: 1 } }],
  ])('names file and field where a value is wrong: %s', (field, input) => {
    expect(() => parseConfig(input, 'c.json')).toThrow(`c.json: ${field}: `)
  })

  it('names a setting that does not exist, and everything that is wrong at once', () => {
    expect(() => parseConfig({ hearbeatSeconds: 5 }, 'c.json')).toThrow(/c\.json: .*"hearbeatSeconds"/)
    const wrong = { heartbeatSeconds: 0, orderMinutes: 0 }
    expect(() => parseConfig(wrong, 'c.json')).toThrow(/heartbeatSeconds: .*\n.*orderMinutes: /)
  })

  it('names a file that is missing, is no JSON, or holds something else', async () => {
    await expect(loadConfig(join(folder, 'none.json'))).rejects.toThrow(
      `${join(folder, 'none.json')}: ENOENT`,
    )
    for (const text of ['', '{', '{"stateDir": "/a",}']) {
      const path = await fileOf(text)
      await expect(loadConfig(path)).rejects.toThrow(`${path}: `)
    }
    for (const text of ['[]', 'null', '"text"', '7']) {
      const path = await fileOf(text)
      await expect(loadConfig(path)).rejects.toThrow(`${path}: must be a JSON object`)
    }
  })
})
