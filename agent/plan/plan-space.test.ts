import { describe, expect, test } from 'vitest'
import type { SpaceReading, System } from '../system/system.ts'
import type { ClosureNeed } from './closure-size.ts'
import { spaceProblems } from './plan-problems.ts'
import { BOOT_RESERVE, readSpace, STORE_RESERVE } from './plan-space.ts'
import { PlanMachine, storePath } from './testing/plan-machine.ts'
import { readToplevel } from './toplevel.ts'

/** The machine's own files, on file systems of a size that a test says: no real one is as full as it asks. */
function withSpace(machine: PlanMachine, free: Readonly<Record<string, number>>): System {
  const space = async (path: string): Promise<SpaceReading> => {
    const freeBytes = free[path]
    if (freeBytes === undefined) return { kind: 'unreadable', code: 'EIO' }
    return { kind: 'space', freeBytes, totalBytes: 1e12, freeFiles: 0, totalFiles: 0 }
  }
  return { ...machine.system, space }
}

async function problems(
  system: System,
  target: string | undefined,
  need: ClosureNeed = { kind: 'need', bytes: 0, paths: 0 },
): Promise<string[]> {
  const space = await readSpace(system, {
    root: '/',
    storeDir: '/nix/store',
    need,
    target: target === undefined ? undefined : await readToplevel(system, target),
  })
  return spaceProblems(space).map(problem => `${problem.class}: ${problem.reason}`)
}

const KERNELS = 'boot/EFI/nixos'
/** Kernel and initrd of the made-up toplevel. */
const NEED = 1500

describe('room', () => {
  test('in the store is refused when what must be fetched does not fit, and when nobody knows', async () => {
    await using machine = await PlanMachine.make()
    const need = { kind: 'need', bytes: 1000, paths: 1 } as const
    const store = (free: number) => withSpace(machine, { '/nix/store': free })
    expect(await problems(store(STORE_RESERVE + 1000), undefined, need)).toEqual([])
    expect(await problems(store(STORE_RESERVE + 999), undefined, need)).toEqual([
      'space-store: /nix/store: 1 bytes too few for 1000 more; remove generations or make room',
    ])
    expect(await problems(withSpace(machine, {}), undefined, need)).toEqual(['unreadable: /nix/store: EIO'])
    expect(await problems(store(1e12), undefined, { kind: 'unknown', why: 'no cache' })).toEqual([
      'unreadable: no cache',
    ])
  })

  test('in the store is not asked for when all is there', async () => {
    await using machine = await PlanMachine.make()
    expect(await problems(withSpace(machine, { '/nix/store': 0 }), undefined)).toEqual([])
  })

  test('on the boot partition is refused when kernel and initrd do not fit', async () => {
    await using machine = await PlanMachine.make()
    const target = await machine.toplevel('b')
    await machine.files({ [`${KERNELS}/old.efi`]: 'x' })
    const boot = (free: number) => withSpace(machine, { '/nix/store': 1e12, '/boot': free })
    expect(await problems(boot(BOOT_RESERVE + NEED), target)).toEqual([])
    expect(await problems(boot(BOOT_RESERVE + NEED - 1), target)).toEqual([
      'space-boot: /boot: 1 bytes too few for 1500 more; remove generations or make room',
    ])
  })

  test.each([
    ['another place', ['/dev/sda1 /esp vfat rw 0 0'], 'esp/EFI/nixos', '/esp'],
    ['a place with a blank', ['/dev/sda1 /my\\040esp vfat rw 0 0'], 'my esp/EFI/nixos', '/my esp'],
    [
      'a mirror of GRUB’s',
      ['/dev/sdb1 /boot-fallback ext4 rw 0 0'],
      'boot-fallback/kernels',
      '/boot-fallback',
    ],
  ])('on the boot partition is asked for at %s', async (_, mounts, kernels, place) => {
    await using machine = await PlanMachine.make()
    const target = await machine.toplevel('b')
    await machine.files({ 'proc/mounts': `${mounts.join('\n')}\n`, [`${kernels}/old`]: 'x' })
    const boot = (free: number) => withSpace(machine, { '/nix/store': 1e12, [place]: free })
    expect(await problems(boot(BOOT_RESERVE + NEED), target)).toEqual([])
    expect(await problems(boot(BOOT_RESERVE + NEED - 1), target)).toEqual([
      `space-boot: ${place}: 1 bytes too few for 1500 more; remove generations or make room`,
    ])
  })

  test('is asked for on each of several boot partitions, and not of a folder that nothing is mounted on', async () => {
    await using machine = await PlanMachine.make()
    const target = await machine.toplevel('b')
    await machine.files({
      'proc/mounts': '/dev/sda1 /boot1 vfat rw 0 0\n/dev/sdb1 /boot2 vfat rw 0 0\n/dev/sdc1 / ext4 rw 0 0\n',
      'boot1/kernels/old': 'x',
      'boot2/kernels/old': 'x',
      'boot/kernels/of-before': 'x',
    })
    const system = withSpace(machine, { '/nix/store': 1e12, '/boot': 0, '/boot1': 1e9, '/boot2': 5 })
    expect(await problems(system, target)).toEqual([
      `space-boot: /boot2: ${BOOT_RESERVE + NEED - 5} bytes too few for 1500 more; remove generations or make room`,
    ])
  })

  test('is not asked for where another boot loader left its kernels', async () => {
    await using machine = await PlanMachine.make()
    const target = await machine.toplevel('b', { 'bin/switch-to-configuration': 'install-grub.pl\n' })
    await machine.files({
      'proc/mounts': '/dev/sda1 /boot ext4 rw 0 0\n/dev/sdb1 /boot/efi vfat rw 0 0\n',
      'boot/kernels/old': 'x',
      'boot/efi/EFI/nixos/of-before': 'x',
    })
    const system = withSpace(machine, { '/nix/store': 1e12, '/boot': 1e9, '/boot/efi': 5 })
    expect(await problems(system, target)).toEqual([])
  })

  test('on the boot partition is not asked for what is there already', async () => {
    await using machine = await PlanMachine.make()
    const target = await machine.toplevel('b')
    const copy = (name: string, file: string) => `${storePath(name).slice('/nix/store/'.length)}-${file}.efi`
    await machine.files({
      [`${KERNELS}/${copy('linux', 'bzImage')}`]: 'x',
      [`${KERNELS}/${copy('initrd', 'initrd')}`]: 'x',
    })
    expect(await problems(withSpace(machine, { '/nix/store': 1e12, '/boot': 0 }), target)).toEqual([])
  })

  test('on the boot partition is unknown when the kernel cannot be seen, and nobody asks without one', async () => {
    await using machine = await PlanMachine.make()
    await machine.files({ [`${KERNELS}/old.efi`]: 'x' })
    const system = withSpace(machine, { '/nix/store': 1e12, '/boot': 1e9 })
    const gone = await machine.toplevel('b', { kernel: '-> /nix/store/nowhere/bzImage' })
    expect(await problems(system, gone)).toEqual(['unreadable: /nix/store/nowhere/bzImage: missing'])
    const container = await machine.toplevel('c', { kernel: '', initrd: '' })
    expect(await problems(system, container)).toEqual([])
  })

  test('is read from the file system that holds a path', async () => {
    await using machine = await PlanMachine.make()
    await machine.files({ 'nix/store/x': 'x' })
    const space = await machine.system.space('/nix/store')
    expect(space.kind).toBe('space')
    if (space.kind === 'space') expect(space.totalBytes).toBeGreaterThan(space.freeBytes)
    expect(await machine.system.space('/nowhere')).toEqual({ kind: 'missing' })
    expect(await machine.system.stat('/nix/store/x')).toMatchObject({ kind: 'stat', sizeBytes: 1 })
  })
})
