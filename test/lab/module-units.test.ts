import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AGENT_UNITS } from '../nix/agent-unit-fixtures.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type Lab, startLab } from './lab.ts'
import type { LabMachine } from './machine.ts'
import { PROGRAM, renderedUnit } from './rendered-units.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

/** The units of the NixOS module under a real systemd. Their programs are stand-ins that write down that they ran. */
const why = whyNoLab()
const TRACE = '/var/lib/trace'
/** What stands for the ten minutes of emergency mode. */
const GRACE_MS = 6_000
let lab: Lab
let machine: LabMachine

beforeAll(async () => {
  if (why !== undefined) return
  lab = await startLab()
  machine = await lab.startMachine('olaf')
  for (const name of AGENT_UNITS)
    await machine.writeFile(
      `/etc/systemd/system/${name}`,
      renderedUnit(name).replace('sleep 10m', `sleep ${GRACE_MS / 1000}`),
    )
  await machine.writeFile(
    PROGRAM,
    `#!/bin/sh
[ "$1" = trial-limit ] && exit 0
echo "$1" >>${TRACE}
[ "$1" = dead-man ] || exec sleep 1000
test ! -e /var/lib/fails
`,
  )
  await machine.ok(['chmod', '755', PROGRAM])
  await machine.ok(['systemctl', 'daemon-reload'])
  await machine.ok(['systemctl', 'enable', '--quiet', ...AGENT_UNITS])
}, SET_UP_MS)
afterAll(async () => await lab?.[Symbol.asyncDispose]())

const until = (what: string, holds: () => Promise<boolean>) =>
  waitUntil(what, async () => ((await holds()) ? true : undefined), { timeoutMs: 60_000 })
const state = async (unit: string) => (await machine.exec(['systemctl', 'is-active', unit])).stdout.trim()

describe.skipIf(why !== undefined)(`the units of the NixOS module under systemd ${why ?? ''}`, () => {
  it('are understood by systemd to the last line', async () => {
    const files = AGENT_UNITS.map(name => `/etc/systemd/system/${name}`)
    const { code, stderr } = await machine.exec(['systemd-analyze', 'verify', ...files])
    expect({ code, stderr: stderr.split('\n').filter(line => line.includes('muster-')) }).toEqual({
      code: 0,
      stderr: [],
    })
  })

  it('run the dead man once at a boot, before the agent, without a network', async () => {
    await machine.cutNetwork()
    await machine.reboot()
    await until('the agent runs', async () => (await state('muster-agent')) === 'active')
    expect(await machine.readFile(TRACE)).toBe('dead-man\n--config\n')
    expect(await state('muster-dead-man')).toBe('active')
    await machine.healNetwork()
  })

  it('start the agent although the dead man fails, and try the dead man again', async () => {
    await machine.ok(['sh', '-c', `rm ${TRACE}; touch /var/lib/fails`])
    await machine.reboot()
    await until('the agent runs', async () => (await state('muster-agent')) === 'active')
    await until('the dead man was tried again', async () =>
      /dead-man\n--config\ndead-man\n/.test(await machine.readFile(TRACE)),
    )
    await machine.ok(['rm', '/var/lib/fails'])
    await until('the dead man is done', async () => (await state('muster-dead-man')) === 'active')
  })

  it('do nothing to a machine that boots as it should', async () => {
    expect(await state('muster-emergency')).toBe('inactive')
  })

  it('lead out of emergency mode by a reboot, unless a person stops that', async () => {
    await machine.writeFile('/etc/fstab', 'none /data no-such-file-system defaults 0 0\n')
    // A container has no console at which the shell of emergency mode would wait for a person.
    await machine.ok(['mkdir', '-p', '/etc/systemd/system/emergency.service.d'])
    await machine.writeFile(
      '/etc/systemd/system/emergency.service.d/console.conf',
      '[Service]\nExecStartPre=\nExecStart=\nExecStart=/bin/sleep infinity\n',
    )
    const emergency = async (order: readonly string[]) => {
      const boots = machine.boots
      await machine.exec(order)
      await until(
        'emergency mode',
        async () => machine.boots > boots && (await state('emergency.target')) === 'active',
      )
    }
    await emergency(['systemctl', 'reboot'])
    await machine.ok(['systemctl', 'stop', 'muster-emergency'])
    const stuck = await machine.bootId()
    await sleep(2 * GRACE_MS)
    expect(await machine.bootId()).toBe(stuck)
    // The person's own reboot is not refused while the other one waits.
    await emergency(['systemctl', 'reboot'])
    await emergency(['systemctl', 'reboot'])
    expect(await state('muster-emergency')).toBe('active')
    const again = await machine.bootId()
    await machine.writeFile('/etc/fstab', '')
    await until('another boot', async () => (await machine.bootId()) !== again)
    await until('the agent runs', async () => (await state('muster-agent')) === 'active')
  }, 180_000)
})
