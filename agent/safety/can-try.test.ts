import { expect, it } from 'vitest'
import {
  LOADER_CONF,
  NEW,
  OLD,
  PROFILE,
  sampleMachine,
  switchProgram,
} from '../operation/testing/sample-machine.ts'
import { canTry } from './can-try.ts'

const FEATURES = '/sys/firmware/efi/efivars/LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'

/** Whose boot loader boots an entry once; OLD is its generation 1. */
function machine() {
  const system = sampleMachine()
  system.files.set(FEATURES, '\u0006\0\0\0\u0008\0\0\0\0\0\0\0')
  return system
}
const why = async (change: (system: ReturnType<typeof sampleMachine>) => unknown = () => {}) => {
  const system = machine()
  await change(system)
  const answer = await canTry(system, '/root')
  return answer.kind === 'can' ? undefined : answer.why
}

it('a boot can be tried where the boot loader says so, and its default is the one entry of what runs', async () => {
  expect(await why()).toBeUndefined()
  expect(await why(system => system.files.delete(FEATURES))).toContain('cannot boot it once')
  expect(await why(system => system.files.set(FEATURES, 'short'))).toContain('cannot be read')
  expect(await why(system => system.files.set(LOADER_CONF, 'timeout 5\n'))).toContain('not named')
  expect(await why(system => system.files.set(LOADER_CONF, 'default nixos-*\n'))).toContain('nixos-*')
  expect(await why(system => system.files.set(LOADER_CONF, 'default nixos-generation-1+3.conf\n'))).toContain(
    '+3',
  )
  expect(await why(system => system.files.delete(LOADER_CONF))).toContain('no loader/loader.conf')
  expect(
    await why(system => system.files.delete('/root/boot/loader/entries/nixos-generation-1.conf')),
  ).toContain('no boot entry nixos-generation-1.conf')
})

it('of several generations of what runs the default may be any', async () => {
  const several = async (toplevel: string) =>
    await why(async system => {
      system.links.set(`${PROFILE}-2-link`, NEW)
      system.links.set(`${PROFILE}-3-link`, OLD)
      await system.run(switchProgram(toplevel), ['boot'], {})
    })
  expect(await several(OLD)).toBeUndefined()
  expect(await several(NEW)).toContain('nixos-generation-2.conf')
})

it('is found on a boot partition that is mounted elsewhere', async () => {
  const moved = async (mounts: string) =>
    await why(system => {
      system.files.set('/proc/mounts', mounts)
      for (const [path, text] of [...system.files]) {
        if (!path.startsWith('/root/boot/')) continue
        system.files.delete(path)
        system.files.set(path.replace('/root/boot/', '/root/esp/'), text)
      }
    })
  expect(await moved('/dev/sda1 /esp vfat rw 0 0\n')).toBeUndefined()
  expect(await moved('')).toContain('no loader/loader.conf')
})
