import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { type Lab, startLab } from './lab.ts'
import type { LabMachine } from './machine.ts'
import { COORDINATOR_ADDRESS } from './network.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

const why = whyNoLab()
let lab: Lab
let machine: LabMachine

beforeAll(async () => {
  if (why !== undefined) return
  lab = await startLab()
  machine = await lab.startMachine('olaf')
}, SET_UP_MS)
afterAll(async () => await lab?.[Symbol.asyncDispose]())

const reaches = async (from: LabMachine, address: string) =>
  (await from.exec(['ping', '-c', '1', '-W', '1', address])).code === 0

/** A cable that was just plugged in needs a moment: the kernel asks for the neighbour again only after a second. */
const untilReached = (from: LabMachine, address: string) =>
  waitUntil(`${address} reached`, async () => ((await reaches(from, address)) ? true : undefined))

describe.skipIf(why !== undefined)(`a lab machine ${why ?? ''}`, () => {
  it('is a machine of its own: systemd, address, names, Nix, and no other network', async () => {
    expect((await machine.ok(['cat', '/proc/1/comm'])).trim()).toBe('systemd')
    expect((await machine.ok(['hostname'])).trim()).toBe('olaf')
    expect(await machine.ok(['ip', '-o', 'addr', 'show', 'host0'])).toContain(`${machine.address}/24`)
    expect(await machine.ok(['ip', 'route'])).not.toContain('default')
    expect(await machine.ok(['nix', 'eval', '--expr', '1 + 1'])).toBe('2\n')
    expect((await machine.readFile('/etc/machine-id')).trim()).toMatch(/^[0-9a-f]{32}$/)
    expect(await machine.failedUnits()).toEqual([])
  })

  it('comes back from a reboot from inside with another boot id and the same disk', async () => {
    const before = await machine.bootId()
    await machine.writeFile('/var/lib/kept', 'kept\n')
    await machine.reboot()
    expect(await machine.bootId()).not.toBe(before)
    expect(await machine.readFile('/var/lib/kept')).toBe('kept\n')
  })

  it('loses what ran but not what was written when its power is cut', async () => {
    await machine.ok(['sh', '-c', 'echo written >/var/lib/written; systemd-run --unit=long sleep 1000'])
    const before = await machine.bootId()
    await machine.powerCut()
    expect(machine.running).toBe(false)
    expect(await machine.readFile('/var/lib/written')).toBe('written\n')
    await machine.boot()
    expect(await machine.bootId()).not.toBe(before)
    expect((await machine.exec(['systemctl', 'is-active', 'long.service'])).stdout).toBe('inactive\n')
  })

  it('is cut off when its cable is pulled, also after a reboot, until it is plugged again', async () => {
    expect(await reaches(machine, COORDINATOR_ADDRESS)).toBe(true)
    await machine.cutNetwork()
    expect(await reaches(machine, COORDINATOR_ADDRESS)).toBe(false)
    await machine.reboot()
    expect(await reaches(machine, COORDINATOR_ADDRESS)).toBe(false)
    await machine.healNetwork()
    await untilReached(machine, COORDINATOR_ADDRESS)
  })

  it('has neighbours with other ids, and its commands have an end', async () => {
    const nils = await lab.startMachine('nils')
    expect(await reaches(machine, nils.address)).toBe(true)
    expect(await nils.readFile('/etc/machine-id')).not.toBe(await machine.readFile('/etc/machine-id'))
    expect(await nils.bootId()).not.toBe(await machine.bootId())
    const { signal, code } = await nils.exec(['sleep', '60'], { timeoutMs: 300 })
    expect(signal ?? code).not.toBe(0)
    await nils.shutDown()
    expect(nils.running).toBe(false)
  })

  it('leaves nothing behind', async () => {
    const other = await startLab()
    const guest = await other.startMachine('guest')
    await guest.powerCut()
    await other[Symbol.asyncDispose]()
    expect(existsSync(other.dir)).toBe(false)
    expect(existsSync(`/run/netns/${other.name}`)).toBe(false)
    expect(await machine.ok(['echo', 'the first lab is still there'])).toContain('still')
  })
})
