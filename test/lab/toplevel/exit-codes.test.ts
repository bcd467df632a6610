import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { Switching, service, trace } from './switching.ts'

const why = whyNoLab()

const plain = { 'plain.service': service('1') }
const systems = {
  base: { units: plain, initInterface: 'systemd 2', inhibitors: { dbus: 'dbus' } },
  good: {
    units: { 'plain.service': service('2'), 'new.service': service('1') },
    inhibitors: { dbus: 'dbus' },
  },
  check: { units: plain, preSwitchChecks: { site: 'echo no >&2; exit 3' } },
  inhibited: { units: plain, inhibitors: { dbus: 'broker' } },
  noInterface: { units: plain, omit: ['init-interface-version'] },
  newInterface: { units: plain, initInterface: 'systemd 3' },
  noActivate: { units: { 'plain.service': service('2') }, omit: ['activate'] },
  noSystemd: { units: { 'plain.service': service('2') }, omit: ['systemd'] },
  noReactivation: { units: plain, omit: ['sysinit-reactivation.target'] },
  activation: { units: { 'plain.service': service('2') }, activationScript: 'exit 3' },
  failing: {
    units: { ...plain, 'bad.service': service('1', { lines: ['ExecStart=', 'ExecStart=/bin/false'] }) },
  },
  late: {
    units: {
      ...plain,
      'late.service': service('1', { lines: ['ExecStart=', 'ExecStart=/bin/sh -c "sleep 4; exit 1"'] }),
    },
  },
  badSetting: {
    units: { 'plain.service': service('2', { lines: ['User=nobody-has-this-name', 'Restart=no'] }) },
  },
  noReload: { units: { 'plain.service': service('2', { lines: ['X-ReloadIfChanged=yes'] }) } },
  slowStop: {
    units: {
      'plain.service': service('1'),
      'slow.service': service('1', { lines: [`ExecStop=/bin/sleep 2`] }),
    },
  },
  afterSlow: { units: { 'plain.service': service('2') }, activationScript: trace('activated') },
}
let on: Switching<keyof typeof systems>

beforeAll(async () => {
  if (why === undefined) on = await Switching.start(systems)
}, SET_UP_MS)
afterAll(async () => await on?.[Symbol.asyncDispose]())

/** What a run left: is the running system still the old one, and the boot default? */
async function where() {
  const { current, bootDefault } = await on.machine.state()
  const nameOf = (path: string) => Object.entries(on.path).find(([, known]) => known === path)?.[0] ?? path
  return { current: nameOf(current), bootDefault: nameOf(bootDefault) }
}

/** As an operator's `nixos-rebuild` would have it before `switch` and `boot`: a generation, so that it gets an entry. */
async function addGeneration(name: keyof typeof systems) {
  await on.machine.ok(['nix-env', '--profile', '/nix/var/nix/profiles/system', '--set', on.path[name]])
}

describe.skipIf(why !== undefined)(`exit codes of the stand-in switch ${why ?? ''}`, () => {
  beforeEach(async () => {
    await on.sh('systemctl unmask --runtime systemd-logind; systemctl start systemd-logind dbus')
    await on.sh(`ln -sfn ${on.path.base} /run/current-system`)
    await addGeneration('base')
    await on.reset('base')
  })

  it('0: all well; says everything on standard error, and two lines to the journal', async () => {
    const since = await on.cursor()
    await addGeneration('good')
    const { code, stdout, stderr } = await on.run('switch', 'good')
    expect({ code, ...(await where()) }).toEqual({ code: 0, current: 'good', bootDefault: 'good' })
    expect(stdout).toBe('setting up /etc...\n')
    expect(stderr.split('\n')).toEqual([
      'stand-in: this is not the switch-to-configuration of NixOS',
      'stand-in: installing the boot loader',
      'stopping the following units: plain.service',
      'activating the configuration...',
      'restarting sysinit-reactivation.target',
      'starting the following units: plain.service',
      'the following new units were started: new.service',
      '',
    ])
    expect(await on.journal(since)).toEqual([
      `switching to system configuration ${on.path.good}`,
      `finished switching to system configuration ${on.path.good}`,
    ])
    expect(await on.lists()).toEqual({})
  })

  it('0: boot changes only what the next boot starts, check and dry-activate nothing', async () => {
    await addGeneration('good')
    const since = await on.cursor()
    expect((await on.run('check', 'good')).code).toBe(0)
    const dry = await on.run('dry-activate', 'good')
    expect(dry.code).toBe(0)
    expect(dry.stderr).toContain(
      'would stop the following units: plain.service\nwould activate the configuration...\n',
    )
    expect(dry.stderr).toContain('would start the following units: plain.service\n')
    // A lower bound: what targets will start is not shown.
    expect(dry.stderr).not.toContain('new.service')
    expect(await on.lists()).toEqual({})
    expect(await where()).toEqual({ current: 'base', bootDefault: 'base' })
    expect((await on.run('boot', 'good')).code).toBe(0)
    expect(await where()).toEqual({ current: 'base', bootDefault: 'good' })
    expect(await on.journal(since)).toEqual([])
  })

  it('1: a check before the switch fails, an inhibitor among them; nothing is touched', async () => {
    const { code, stderr } = await on.run('switch', 'check')
    expect({ code, ...(await where()) }).toEqual({ code: 1, current: 'base', bootDefault: 'base' })
    expect(stderr).toContain("Pre-switch check 'site' failed")
    const inhibited = await on.run('test', 'inhibited')
    expect(inhibited.code).toBe(1)
    expect(inhibited.stderr).toMatch(/dbus : dbus -> broker[\s\S]*Pre-switch check 'switchInhibitors' failed/)
    expect((await on.run('check', 'inhibited')).code).toBe(1)
    expect((await on.run('dry-activate', 'inhibited')).code).toBe(0)
    expect((await on.run('boot', 'inhibited')).code).toBe(0)
    expect((await on.run('test', 'inhibited', { NIXOS_NO_CHECK: '1' })).code).toBe(0)
  })

  it('1: no D-Bus, or a system without interface version: only the boot default is new', async () => {
    await addGeneration('noInterface')
    expect((await on.run('switch', 'noInterface')).code).toBe(1)
    expect(await where()).toEqual({ current: 'base', bootDefault: 'noInterface' })
    await addGeneration('good')
    await on.sh('mv /run/dbus/system_bus_socket /run/dbus/away')
    const { code, stderr } = await on.run('switch', 'good')
    await on.sh('mv /run/dbus/away /run/dbus/system_bus_socket')
    expect({ code, ...(await where()) }).toEqual({ code: 1, current: 'base', bootDefault: 'good' })
    expect(stderr).toContain('Failed to open dbus connection')
  })

  it('1 in the middle: a stale entry of the reload list wedges every run until it is taken out', async () => {
    const since = await on.cursor()
    for (const attempt of [1, 2]) {
      if (attempt === 1) await on.sh('echo gone.service >/run/nixos/reload-list')
      const { code, stderr } = await on.run('test', 'good')
      expect(code).toBe(1)
      expect(stderr).toContain('Failed to get unit gone.service')
      expect((await where()).current).toBe('good')
      expect(await on.isActive('new.service')).toBe(false)
      expect(await on.isActive('plain.service')).toBe(false)
    }
    expect(await on.journal(since)).not.toContain(
      `finished switching to system configuration ${on.path.good}`,
    )
    expect(await on.lists()).toMatchObject({ reload: ['gone.service'] })
    await on.sh('rm /run/nixos/reload-list')
    expect((await on.run('test', 'good')).code).toBe(0)
    expect(await on.isActive('plain.service')).toBe(true)
  })

  it('2: the activation script failed in the middle: /etc is new, /run/current-system old, units are switched', async () => {
    const since = await on.cursor()
    const { code, stderr } = await on.run('test', 'activation')
    expect({ code, ...(await where()) }).toEqual({ code: 2, current: 'base', bootDefault: 'base' })
    expect(stderr).toContain('Failed to run activate script')
    expect((await on.sh('readlink /etc/static')).trim()).toBe(`${on.path.activation}/etc`)
    expect(await on.show('plain.service', 'Environment')).toBe('VERSION=2')
    expect((await on.journal(since)).at(-1)).toBe(
      `switching to system configuration ${on.path.activation} failed (status 2)`,
    )
  })

  it('2: no NixOS, or without a word a system without systemd, which leaves lists although nothing was changed', async () => {
    await on.sh('rm /etc/NIXOS; ln -sfn /usr/lib/os-release /etc/os-release')
    const foreign = await on.run('test', 'good')
    await on.sh('touch /etc/NIXOS; ln -sfn /etc/static/os-release /etc/os-release')
    expect(foreign.code).toBe(2)
    expect(foreign.stderr).toContain('This is not a NixOS installation!')
    const { code, stderr } = await on.run('test', 'noSystemd')
    expect({ code, ...(await where()) }).toEqual({ code: 2, current: 'base', bootDefault: 'base' })
    expect(stderr.trim()).toBe('stand-in: this is not the switch-to-configuration of NixOS')
    expect((await on.lists()).start).toContain('plain.service')
    expect((await on.run('dry-activate', 'base')).stderr).toContain(
      'would start the following units: plain.service',
    )
  })

  it('4: a unit failed, a reload without ExecReload, no sysinit-reactivation.target; the system is the new one', async () => {
    const since = await on.cursor()
    const failing = await on.run('test', 'failing')
    expect(failing.code).toBe(4)
    expect(failing.stderr).toContain('warning: the following units failed: bad.service')
    expect(failing.stdout).toContain('bad.service')
    expect((await where()).current).toBe('failing')
    expect((await on.journal(since)).at(-1)).toContain('failed (status 4)')
    await on.reset('base')
    const reload = await on.run('test', 'noReload')
    expect(reload.code).toBe(4)
    expect(reload.stderr).toContain('Failed to reload plain.service')
    await on.reset('base')
    const target = await on.run('test', 'noReactivation')
    expect(target.code).toBe(4)
    expect(target.stderr).toContain('Failed to restart sysinit-reactivation.target')
    expect((await where()).current).toBe('noReactivation')
  })

  it('11: another holds the lock; whatever the action, nothing is touched', async () => {
    await on.sh(
      'systemd-run --unit=holder --quiet flock /run/nixos/switch-to-configuration.lock sleep 60; while flock -n /run/nixos/switch-to-configuration.lock true; do sleep 0.05; done',
    )
    for (const action of ['switch', 'test', 'boot', 'dry-activate', 'check'] as const) {
      const { code, stderr } = await on.run(action, 'good')
      expect({ action, code }).toEqual({ action, code: 11 })
      expect(stderr).toContain('Could not acquire lock')
    }
    await on.sh('systemctl stop holder')
    expect(await where()).toEqual({ current: 'base', bootDefault: 'base' })
  })

  it('11 in the middle: logind is masked; activated, but nothing is started', async () => {
    await on.sh('systemctl stop systemd-logind; systemctl mask --runtime systemd-logind')
    const since = await on.cursor()
    const { code, stderr } = await on.run('test', 'good')
    expect({ code, ...(await where()) }).toEqual({ code: 11, current: 'good', bootDefault: 'base' })
    expect(stderr).toContain('Unable to list users with logind: ')
    expect(await on.isActive('plain.service')).toBe(false)
    expect(await on.journal(since)).toEqual([`switching to system configuration ${on.path.good}`])
  })

  it('100: another init interface, or no current system; not for check and boot', async () => {
    await addGeneration('newInterface')
    for (const action of ['dry-activate', 'test'] as const) {
      expect((await on.run(action, 'newInterface')).code).toBe(100)
      expect(await where()).toEqual({ current: 'base', bootDefault: 'base' })
    }
    expect((await on.run('check', 'newInterface')).code).toBe(0)
    expect((await on.run('switch', 'newInterface')).code).toBe(100)
    expect(await where()).toEqual({ current: 'base', bootDefault: 'newInterface' })
    await on.sh('rm /run/current-system')
    expect((await on.run('test', 'good')).code).toBe(100)
  })

  it('101: standard error cannot be written, because nobody reads it or the disk is full; closed is harmless', async () => {
    const run = (redirection: string) =>
      on.machine.exec(['bash', '-c', `${on.path.good}/bin/switch-to-configuration test ${redirection}`])
    expect((await run('2>/dev/full')).code).toBe(101)
    expect((await where()).current).toBe('base')
    // It died of its first message, which is said after planning: the lists are there.
    expect((await on.lists()).start).toContain('plain.service')
    const script = `${on.path.good}/bin/switch-to-configuration test 2>&1 >/dev/null | head -c 1 >/dev/null; echo $\{PIPESTATUS[0]}`
    expect((await on.machine.exec(['bash', '-c', script])).stdout.trim()).toBe('101')
    await on.reset('base')
    expect((await run('2>&-')).code).toBe(0)
    expect((await where()).current).toBe('good')
  })

  it('a signal: the lists stay, and running it again finishes what was begun', async () => {
    await on.reset('slowStop')
    const script = `${on.path.afterSlow}/bin/switch-to-configuration test & until systemctl is-active slow.service | grep -q deactivating; do sleep 0.05; done; kill -TERM $!; wait $!; echo "exit $?"`
    expect((await on.machine.exec(['bash', '-c', script])).stdout).toContain('exit 143')
    expect((await where()).current).toBe('slowStop')
    expect((await on.lists()).start).toContain('plain.service')
    expect((await on.run('test', 'afterSlow')).code).toBe(0)
    expect(await on.isActive('plain.service')).toBe(true)
    expect(await on.lists()).toEqual({})
  })

  it('0 although /run/current-system stays old: a system without activation script', async () => {
    expect((await on.run('test', 'noActivate')).code).toBe(0)
    expect((await where()).current).toBe('base')
  })

  it('0 although a unit dies: it looks for a quarter of a second', async () => {
    expect((await on.run('test', 'late')).code).toBe(0)
    await expect.poll(() => on.machine.failedUnits()).toEqual(['late.service'])
  })

  it('0 when what gave 4 is repeated: a unit with a bad setting is merely pulled in then', async () => {
    expect((await on.run('test', 'badSetting')).code).toBe(4)
    const again = await on.run('test', 'badSetting')
    expect(await on.isActive('plain.service')).toBe(false)
    expect(again.code).toBe((await on.machine.failedUnits()).length > 0 ? 4 : 0)
  })
})
