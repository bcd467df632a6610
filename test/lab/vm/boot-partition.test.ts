import { cp, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { Lab } from '../lab.ts'
import { addToStore } from '../nix.ts'
import { inWords } from '../safety/safe-fleet.ts'
import { SET_UP_MS } from '../why-not.ts'
import { SLOW_MS, VirtualFleet } from './virtual-fleet.ts'
import { ensureVmRoot, INITRD, KERNEL } from './vm-root.ts'
import { whyNoVirtualMachine } from './why-not.ts'

const why = whyNoVirtualMachine()
const MEGABYTE = 1024 * 1024
/** Three old kernels of 8 and the real one of 14 leave less than another real one takes. */
const BOOT_MEGABYTES = 48
const OLD = ['oldest', 'older', 'old']
const OLD_MEGABYTES = 8

interface Kernels {
  readonly initrd: string
  readonly now: string
  readonly next: string
  /** More than there would be room for if nothing else were there. */
  readonly huge: string
  readonly old: readonly string[]
}

/** Kernels in folders of the store, one each, as NixOS has them: so a copy on the boot partition bears the folder's name. */
async function makeKernels(lab: Lab): Promise<Kernels> {
  const root = await ensureVmRoot()
  const add = async (folder: string, file: string, fill: (path: string) => Promise<void>) => {
    await mkdir(join(lab.dir, folder))
    await fill(join(lab.dir, folder, file))
    return join(await addToStore(join(lab.dir, folder)), file)
  }
  const real = (name: string) => add(`linux-${name}`, 'bzImage', path => cp(join(root, KERNEL), path))
  const stuffed = (name: string, megabytes: number) =>
    add(`linux-${name}`, 'bzImage', path => writeFile(path, Buffer.alloc(megabytes * MEGABYTE, `${name}\n`)))
  return {
    initrd: await add('initrd-linux', 'initrd', path => cp(join(root, INITRD), path)),
    now: await real('now'),
    next: await real('next'),
    huge: await stuffed('huge', BOOT_MEGABYTES),
    old: await Promise.all(OLD.map(name => stuffed(name, OLD_MEGABYTES))),
  }
}

describe.skipIf(why !== undefined)(
  `a boot partition that is full of old generations${why === undefined ? '' : ` (${why})`}`,
  () => {
    let fleet: VirtualFleet
    let kernels: Kernels
    const systems: string[] = []

    const list = async (folder: string) => (await fleet.vm.sh(`ls ${folder}`)).trim().split('\n')
    const entries = async () =>
      (await list('/boot/loader/entries')).map(name => Number(/\d+/.exec(name)?.[0]))
    const kernelsThere = async () =>
      (await list('/boot/EFI/nixos'))
        .map(name => /-linux-(\w+)-bzImage/.exec(name)?.[1])
        .filter(Boolean)
        .sort()
    const generations = async () =>
      (await fleet.vm.sh('cd /nix/var/nix/profiles; ls -d system-*-link | grep -o "[0-9]*"'))
        .trim()
        .split('\n')
        .map(Number)
        .sort((a, b) => a - b)
    const freeBytes = async () => Number(await fleet.vm.sh('df --output=avail -B1 /boot | tail -n 1'))

    beforeAll(async () => {
      fleet = await VirtualFleet.install(async lab => {
        kernels = await makeKernels(lab)
        const { initrd, now, next, huge, old } = kernels
        return {
          diskSerial: 'S4EVNX0M777003',
          bootMegabytes: BOOT_MEGABYTES,
          system: { kernelFile: now, initrdFile: initrd },
          older: old.map(kernelFile => ({ kernelFile })),
          store: [initrd, now, next, huge, ...old].map(path => dirname(path)),
        }
      })
      await fleet.vm.boot()
      // No system of the machine holds it yet, and garbage is collected before its own does.
      await fleet.vm.sh(`ln -s ${dirname(kernels.huge)} /nix/var/nix/gcroots/lab-huge`)
      await fleet.approve()
      // Two changes of the running system, so that what is booted, what runs and what ran before are three.
      for (const generation of ['5', '6']) {
        const { outcome, system } = await fleet.apply({ generation })
        expect(outcome).toMatchObject({ class: OutcomeClass.SUCCEEDED })
        systems.push(system)
      }
    }, SET_UP_MS)
    afterAll(async () => await fleet?.[Symbol.asyncDispose]())

    it('takes a change all the same: what is surplus goes from profile and partition, and nothing that is needed', {
      timeout: SLOW_MS,
    }, async () => {
      expect(await generations()).toEqual([1, 2, 3, 4, 5, 6])
      expect(await entries()).toEqual([1, 2, 3, 4, 5, 6])
      expect(await kernelsThere()).toEqual(['now', 'old', 'older', 'oldest'])
      const kernelBytes = Number(await fleet.vm.sh(`stat -c %s ${kernels.next}`))
      expect(await freeBytes()).toBeLessThan(kernelBytes)
      const { booted, current } = await fleet.vm.state()
      expect([booted === current, current]).toEqual([false, systems[1]])

      const { outcome, system } = await fleet.apply({ generation: '7', kernelFile: kernels.next })
      expect([inWords(outcome), outcome.reason]).toEqual(['succeeded', `runs ${system}`])
      expect(fleet.vm.boots).toBe(2)
      expect(await fleet.vm.state()).toEqual({
        booted: system,
        current: system,
        profile: system,
        bootDefault: system,
      })
      // 4 was booted, 5 ran before the last change, 6 ran.
      expect(await generations()).toEqual([4, 5, 6, 7])
      expect(await entries()).toEqual([4, 5, 6, 7])
      expect(await kernelsThere()).toEqual(['next', 'now'])
      for (const kernel of kernels.old) expect((await fleet.vm.exec(['test', '-e', kernel])).code).toBe(1)
    })

    it('refuses what would not fit into it even so, and boots what it booted', {
      timeout: SLOW_MS,
    }, async () => {
      const before = await fleet.vm.state()
      const { outcome } = await fleet.apply({ generation: '8', kernelFile: kernels.huge })
      expect(inWords(outcome)).toBe('refused space-boot')
      expect(outcome.reason).toMatch(/\/boot: \d+ bytes too few/)
      expect(await fleet.vm.state()).toEqual(before)
      // What the order to go back leads to is there still.
      expect(await generations()).toEqual([6, 7])
      expect(await kernelsThere()).toEqual(['next', 'now'])
      await fleet.vm.reboot()
      expect(await fleet.vm.state()).toEqual(before)
    })
  },
)
