import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { waitUntil } from '../../support/wait-until.ts'
import { type Lab, startLab } from '../lab.ts'
import { buildSystems } from '../systems.ts'
import { SET_UP_MS } from '../why-not.ts'
import { VirtualMachine, virtualAddress } from './virtual-machine.ts'
import { virtualSystem } from './virtual-system.ts'
import { whyNoVirtualMachine } from './why-not.ts'

const why = whyNoVirtualMachine()
const BOOTS_MS = 15 * 60_000

describe.skipIf(why !== undefined)(`the watchdog of a board${why === undefined ? '' : ` (${why})`}`, () => {
  let lab: Lab
  let vm: VirtualMachine
  /** Generations 1 and 2. */
  let [first, second] = ['', '']

  beforeAll(async () => {
    lab = await startLab()
    const common = {
      hostName: 'olaf',
      network: { address: virtualAddress(0) },
      // What `services.muster.agent.watchdog` becomes.
      etc: { 'systemd/system.conf': '[Manager]\nShowStatus=no\nRuntimeWatchdogSec=1m\n' },
    }
    const paths = await buildSystems({
      first: await virtualSystem(common),
      second: await virtualSystem({ ...common, generation: '2' }),
    })
    first = paths.first
    second = paths.second
    vm = await VirtualMachine.install(lab, 'olaf', 0, { systems: [first, second], watchdog: true })
    await vm.boot()
  }, SET_UP_MS)
  afterAll(async () => await lab?.[Symbol.asyncDispose]())

  const booted = async () => (await vm.state()).booted
  const untilFed = async () =>
    await waitUntil(
      'systemd has the watchdog',
      async () => (await vm.sh('ls -l /proc/1/fd')).includes('/dev/watchdog') || undefined,
      { timeoutMs: BOOTS_MS / 3, everyMs: 1_000 },
    )

  it('is found and fed by systemd from the setting of the system', { timeout: BOOTS_MS }, async () => {
    expect(await booted()).toBe(first)
    await untilFed()
    expect(await vm.sh('cat /sys/class/watchdog/watchdog0/identity')).toBe('wdat_wdt\n')
  })

  it('resets a machine whose kernel stands still in a trial boot, with nothing running: the old system comes up', {
    timeout: BOOTS_MS,
  }, async () => {
    await vm.ok([`${first}/bin/switch-to-configuration`, 'boot'])
    await vm.ok(['bootctl', 'set-oneshot', 'nixos-generation-2.conf'])
    await vm.reboot()
    expect(await booted()).toBe(second)
    await untilFed()
    const boots = vm.boots
    const before = (await vm.console()).length
    // A kernel that gave up and was not told to reboot: no interrupt, no timer, no process. Nothing of software is left.
    await vm.exec(['sh', '-c', 'echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger']).catch(() => {})
    await vm.untilBooted(boots + 1, 5 * 60_000)
    expect((await vm.console()).slice(before)).toContain('Kernel panic - not syncing: sysrq triggered crash')
    expect((await vm.console()).slice(before)).not.toContain('Rebooting in')
    expect(await booted()).toBe(first)
  })
})
