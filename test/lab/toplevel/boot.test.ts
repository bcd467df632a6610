import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { Switching, service } from './switching.ts'

const why = whyNoLab()
const PROFILE = '/nix/var/nix/profiles/system'

const systems = {
  base: { units: { 'a.service': service('1') } },
  next: { kernelParams: ['quiet'], units: { 'a.service': service('2') } },
  panics: { kernelParams: ['lab.panic', 'panic=1'] },
  hangs: { kernelParams: ['lab.panic'] },
  foreign: {},
}
type Name = keyof typeof systems
let on: Switching<Name>

beforeAll(async () => {
  if (why === undefined) on = await Switching.start(systems)
}, SET_UP_MS)
afterAll(async () => await on?.[Symbol.asyncDispose]())

async function state() {
  const paths = await on.machine.state()
  const nameOf = (path: string) => Object.entries(on.path).find(([, known]) => known === path)?.[0] ?? path
  return {
    booted: nameOf(paths.booted),
    current: nameOf(paths.current),
    bootDefault: nameOf(paths.bootDefault),
  }
}

/** A generation of the system profile, whose number is returned; the profile leads to `profile` afterwards. */
async function addGeneration(name: Name, profile: Name): Promise<number> {
  await on.machine.ok(['nix-env', '--profile', PROFILE, '--set', on.path[name]])
  const number = Number(/system-(\d+)-link/.exec(await on.sh(`readlink ${PROFILE}`))?.[1])
  if (profile !== name) await on.machine.ok(['nix-env', '--profile', PROFILE, '--switch-generation', '1'])
  return number
}

const entries = async () => (await on.sh('ls /boot/loader/entries')).trim().split('\n')

describe.skipIf(why !== undefined)(`how a lab machine boots ${why ?? ''}`, () => {
  beforeEach(async () => {
    if (!on.machine.running) await on.machine.boot()
    await on.sh(`rm -f /boot/loader/lab-oneshot ${PROFILE}-*-link; ln -s ${on.path.base} ${PROFILE}-1-link`)
    await on.sh(`ln -sfn system-1-link ${PROFILE}`)
    expect((await on.run('switch', 'base')).code).toBe(0)
  })

  it('starts what the boot default names, not what the profile or the running system is', async () => {
    await addGeneration('next', 'next')
    expect((await on.run('test', 'next')).code).toBe(0)
    await on.machine.reboot()
    expect(await state()).toEqual({ booted: 'base', current: 'base', bootDefault: 'base' })
    expect((await on.run('boot', 'next')).code).toBe(0)
    expect(await state()).toEqual({ booted: 'base', current: 'base', bootDefault: 'next' })
    await on.machine.reboot()
    expect(await state()).toEqual({ booted: 'next', current: 'next', bootDefault: 'next' })
    expect(await on.machine.readFile('/run/lab-cmdline')).toContain('quiet')
    expect(await on.show('a.service', 'Environment')).toBe('VERSION=2')
  })

  it('tries an entry once: the boot after it takes the default again', async () => {
    const number = await addGeneration('next', 'base')
    expect((await on.run('boot', 'base')).code).toBe(0)
    expect(await entries()).toEqual(['nixos-generation-1.conf', `nixos-generation-${number}.conf`])
    await on.machine.ok(['bootctl', 'set-oneshot', `nixos-generation-${number}.conf`])
    await on.machine.reboot()
    expect(await state()).toEqual({ booted: 'next', current: 'next', bootDefault: 'base' })
    await on.machine.reboot()
    expect(await state()).toEqual({ booted: 'base', current: 'base', bootDefault: 'base' })
    expect((await on.machine.exec(['bootctl', 'set-oneshot', 'nixos-generation-99.conf'])).code).toBe(1)
  })

  it('comes back by itself from a tried entry whose kernel panics, when it is told to reboot then', async () => {
    const number = await addGeneration('panics', 'base')
    expect((await on.run('boot', 'base')).code).toBe(0)
    await on.machine.ok(['bootctl', 'set-oneshot', `nixos-generation-${number}.conf`])
    const { boots } = on.machine
    await on.machine.exec(['systemctl', 'reboot'])
    await on.machine.untilBooted(boots + 2)
    expect(await state()).toEqual({ booted: 'base', current: 'base', bootDefault: 'base' })
  })

  it('hangs in one that is not told to, until somebody cuts its power', async () => {
    const number = await addGeneration('hangs', 'base')
    expect((await on.run('boot', 'base')).code).toBe(0)
    await on.machine.ok(['bootctl', 'set-oneshot', `nixos-generation-${number}.conf`])
    const { boots } = on.machine
    await on.machine.exec(['systemctl', 'reboot'])
    await expect.poll(() => on.machine.boots).toBe(boots + 1)
    await expect.poll(() => on.machine.console()).toMatch(/kernel panic: asked for by the entry\s*$/)
    expect((await on.machine.exec(['systemctl', 'is-system-running'])).code).not.toBe(0)
    await on.machine.powerCut()
    await on.machine.boot()
    expect((await state()).booted).toBe('base')
  })

  it('keeps its default when the installer is given a system that is no generation, and forgets entries of those gone', async () => {
    const number = await addGeneration('next', 'base')
    expect((await on.run('boot', 'foreign')).code).toBe(0)
    expect((await state()).bootDefault).toBe('base')
    expect(await entries()).toContain(`nixos-generation-${number}.conf`)
    const files = (await on.sh('ls /boot/EFI/nixos')).trim().split('\n')
    expect(files.every(name => /^[0-9a-z]{32}-(linux|initrd)-.*\.efi$/.test(name))).toBe(true)
    await on.machine.ok(['nix-env', '--profile', PROFILE, '--delete-generations', `${number}`])
    expect((await on.run('boot', 'base')).code).toBe(0)
    expect(await entries()).toEqual(['nixos-generation-1.conf'])
  })

  it('fails every switch of the boot loader while a loader.tmp is left from a power cut', async () => {
    await on.sh('touch /boot/loader/loader.tmp')
    for (let time = 0; time < 2; time++) expect((await on.run('boot', 'base')).code).not.toBe(0)
    await on.sh('rm /boot/loader/loader.tmp')
    expect((await on.run('boot', 'base')).code).toBe(0)
  })
})
