import { expect, it } from 'vitest'
import { createClusterDoor, noClusterDoor } from '../clusters/cluster-door.ts'
import type { DriverReading } from '../drivers/create-driver.ts'
import type { DiskData } from '../drivers/node/disk-data.ts'
import { makeDriver } from '../drivers/testing/driver-fixture.ts'
import { madeUpRuntime } from '../drivers/testing/made-up-runtime.ts'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { nodeKubernetes } from './node-kubernetes.ts'

const ours: DiskData = { kind: 'cluster', distribution: 'kubernetes', server: false, authority: 'a' }
const clock = { now: () => new Date(0) }

async function isForeign(data: DiskData, adopted: string | undefined): Promise<boolean> {
  const { driver } = await makeDriver({}, [])
  const state = await driver.readState()
  const opened: DriverReading = {
    kind: 'driver',
    driver: { ...driver, readState: async () => ({ ...state, data, adopted }) },
  }
  const door = {
    openDriver: async () => opened,
    readDisk: async () => data,
    connectRuntime: madeUpRuntime().connect,
  }
  return await nodeKubernetes(new ScriptedSystem(), door).isForeign()
}

it.each<[string, DiskData, string | undefined, boolean]>([
  ['that has none', { kind: 'none' }, undefined, false],
  ['whose cluster was founded, joined or adopted here', ours, 'a', false],
  ['whose cluster nobody adopted', ours, undefined, true],
  ['whose data is of another cluster than was adopted', ours, 'b', true],
  ['whose data cannot be read', { kind: 'unreadable', reason: 'EIO' }, undefined, true],
])('the cluster of a machine %s', async (_, data, adopted, foreign) => {
  expect(await isForeign(data, adopted)).toBe(foreign)
})

it('what runs on a machine that stands for a made-up one is nobody’s to restart', async () => {
  const system = new ScriptedSystem()
  const agent = { stateDir: '/s', publicKeyDer: new Uint8Array(), clock }
  expect(await nodeKubernetes(system, noClusterDoor(agent)).isForeign()).toBe(true)
  expect(await nodeKubernetes(system, createClusterDoor(system)(agent)).isForeign()).toBe(false)
})
