import { expect, it } from 'vitest'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { bootMounts } from './boot-mounts.ts'

it('the boot loader’s files are looked for at the usual places, and on every other partition that firmware can read', async () => {
  const system = new ScriptedSystem()
  expect(await bootMounts(system)).toEqual(['boot', 'efi', 'boot/efi'])
  system.files.set(
    '/proc/mounts',
    [
      '/dev/sda2 / ext4 rw,relatime 0 0',
      '/dev/sda1 /boot vfat rw,relatime 0 0',
      '/dev/sdb1 /efi\\040two vfat rw 0 0',
      '/dev/sdc1 /srv/vfat xfs rw 0 0',
    ].join('\n'),
  )
  expect(await bootMounts(system)).toEqual(['boot', 'efi', 'boot/efi', 'efi two'])
})
