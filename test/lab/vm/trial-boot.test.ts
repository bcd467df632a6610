import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Lab, startLab } from '../lab.ts'
import { buildSystems } from '../systems.ts'
import { SET_UP_MS } from '../why-not.ts'
import { VirtualMachine, virtualAddress } from './virtual-machine.ts'
import { virtualSystem } from './virtual-system.ts'
import { whyNoVirtualMachine } from './why-not.ts'

const why = whyNoVirtualMachine()
/** A boot or two on a busy machine. */
const BOOTS_MS = 20 * 60_000

// A boot takes half a minute and more, so that all share one machine, and each test begins where the one before ended.
describe.skipIf(why !== undefined)(`a virtual machine${why === undefined ? '' : ` (${why})`}`, () => {
  let lab: Lab
  let vm: VirtualMachine
  /** Generations 1, 2 and 3. The last one panics: its kernel finds no root file system. */
  let [first, second, third] = ['', '', '']

  beforeAll(async () => {
    lab = await startLab()
    const common = { hostName: 'olaf', network: { address: virtualAddress(0) } }
    const paths = await buildSystems({
      first: await virtualSystem(common),
      second: await virtualSystem({ ...common, generation: '2' }),
      third: await virtualSystem({ ...common, kernelParams: ['rdinit=/nothing', 'root=/dev/nothing'] }),
    })
    first = paths.first
    second = paths.second
    third = paths.third
    vm = await VirtualMachine.install(lab, 'olaf', 0, {
      systems: [first, second, third],
      hardware: { serial: 'LAB0042', diskSerial: 'S4EVNX0M123456', manufacturer: 'Muster Lab' },
    })
  }, SET_UP_MS)

  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]()
  })

  const booted = async () => (await vm.state()).booted
  /** The boot loader's one-shot variable; it has 4 bytes of attributes when it is there. */
  const oneShotBytes = async () =>
    Number(await vm.sh('cat /sys/firmware/efi/efivars/LoaderEntryOneShot-* 2>/dev/null | wc -c'))

  it('boots its own generation through firmware and boot loader, with its hardware and an unset clock', {
    timeout: BOOTS_MS,
  }, async () => {
    await vm.boot({ clock: new Date(0) })
    expect(await vm.sh('cat /sys/class/rtc/rtc0/date')).toContain('1970-01-01')
    // systemd moves a clock that stands before its own build to just that, and no further.
    expect(Number(await vm.ok(['date', '+%s']))).toBeLessThan(Date.now() / 1000 - 86_400)

    expect(await vm.untilStarted()).toBe('running')
    expect(await vm.state()).toEqual({ booted: first, current: first, profile: first, bootDefault: first })
    const facts = await vm.sh(`
        cat /sys/class/dmi/id/product_serial /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_uuid
        cat /sys/block/vda/serial; echo; cat /sys/class/net/host0/address; uname -r
        ip -4 -o addr show dev host0 | awk '{print $4}'`)
    const kernel = (await vm.sh('ls /usr/lib/modules')).trim()
    const { uuid, mac } = vm.hardware
    const expected = ['LAB0042', 'Muster Lab', uuid, 'S4EVNX0M123456', mac, kernel, `${vm.address}/24`]
    expect(facts.trim().split('\n')).toEqual(expected)
    const loader = await vm.ok(['bootctl', 'status'])
    expect(loader).toContain('Product: systemd-boot')
    expect(loader).toContain('✓ One-shot entry control')
  })

  it('tries a newer generation for one boot', { timeout: BOOTS_MS }, async () => {
    const bootId = await vm.bootId()
    // The order of a trial: newer generations exist, the profile points at the old one, whose own program writes the
    // entries; the default stays the old one.
    await vm.ok([`${first}/bin/switch-to-configuration`, 'boot'])
    expect((await vm.sh('ls /boot/loader/entries')).trim().split('\n')).toEqual([
      'nixos-generation-1.conf',
      'nixos-generation-2.conf',
      'nixos-generation-3.conf',
    ])
    expect((await vm.state()).bootDefault).toBe(first)

    await vm.ok(['bootctl', 'set-oneshot', 'nixos-generation-2.conf'])
    // A variable of the firmware: what the boot loader's installer does later does not take it back.
    await vm.ok([`${first}/bin/switch-to-configuration`, 'boot'])
    expect(await oneShotBytes()).toBeGreaterThan(4)

    await vm.reboot()
    expect(await vm.state()).toEqual({ booted: second, current: second, profile: first, bootDefault: first })
    expect(await vm.bootId()).not.toBe(bootId)
    expect(await oneShotBytes()).toBe(0)
  })

  it('is back at the default after a power cut, without what was not synced, and with a clock an hour wrong', {
    timeout: BOOTS_MS,
  }, async () => {
    await vm.sh('echo kept >/var/lib/synced; sync /var/lib/synced /var/lib')
    await vm.sh('echo lost >/var/lib/unsynced')
    await vm.powerCut()
    await vm.boot({ clock: new Date(Date.now() + 3_600_000) })
    expect(await booted()).toBe(first)
    expect(await vm.readFile('/var/lib/synced')).toBe('kept\n')
    expect((await vm.exec(['cat', '/var/lib/unsynced'])).stdout).not.toContain('lost')
    const ahead = Number(await vm.ok(['date', '+%s'])) - Date.now() / 1000
    expect(ahead).toBeGreaterThan(3_000)
    expect(ahead).toBeLessThan(4_200)
  })

  it('comes back by itself when the generation it tries panics', { timeout: BOOTS_MS }, async () => {
    const before = (await vm.console()).length
    await vm.ok(['bootctl', 'set-oneshot', 'nixos-generation-3.conf'])
    await vm.reboot()
    expect((await vm.console()).slice(before)).toContain('Rebooting in 10 seconds')
    expect(await booted()).toBe(first)
  })

  it('comes back by itself when systemd hangs in the generation it tries: the watchdog resets it', {
    timeout: BOOTS_MS,
  }, async () => {
    await vm.ok(['bootctl', 'set-oneshot', 'nixos-generation-2.conf'])
    await vm.reboot()
    expect(await booted()).toBe(second)
    const boots = vm.boots
    // The kernel's own, which every machine has; that of a board: see watchdog.test.ts.
    await vm.sh('modprobe softdog && test -c /dev/watchdog0')
    // What `watchdog` of the module sets in the system's configuration, here for the manager that runs.
    const manager = [
      'org.freedesktop.systemd1',
      '/org/freedesktop/systemd1',
      'org.freedesktop.systemd1.Manager',
    ]
    await vm.ok(['busctl', 'set-property', ...manager, 'RuntimeWatchdogUSec', 't', '20000000'])
    expect(await vm.ok(['busctl', 'get-property', ...manager, 'RuntimeWatchdogUSec'])).toBe('t 20000000\n')
    // A crash of process 1 is no panic: systemd stands still for ever, and feeds nothing.
    await vm.exec(['sh', '-c', 'kill -SEGV 1; sleep 2']).catch(() => {})
    await vm.untilBooted(boots + 1)
    expect(await booted()).toBe(first)
  })
})
