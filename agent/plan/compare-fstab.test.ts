import { expect, test } from 'vitest'
import { compareFstab, mountUnit } from './compare-fstab.ts'

const text = (value: string) => ({ kind: 'value', value }) as const

test('mounts that are gone stop, new ones start, others remount or restart, and / and /nix stay', () => {
  const before = text(`# made by NixOS
/dev/a / ext4 defaults 0 1
/dev/b /srv ext4 defaults 0 2
/dev/c /gone ext4 defaults 0 2
/dev/d /data ext4 defaults 0 2
/dev/e none swap
`)
  const after = text(`/dev/x / ext4 defaults 0 1
/dev/b /srv ext4 noatime 0 2
/dev/y /data ext4 defaults 0 2
/dev/z /new ext4 defaults 0 2
`)
  expect(compareFstab(before, after).map(({ unit, action }) => `${action} ${unit}`)).toEqual([
    'keep -.mount',
    'reload srv.mount',
    'stop gone.mount',
    'restart data.mount',
    'start new.mount',
  ])
  expect(compareFstab(before, before)).toEqual([])
})

test.each([
  ['/', '-.mount'],
  ['/var/lib/k3s', 'var-lib-k3s.mount'],
  ['/srv/a-b', 'srv-a\\x2db.mount'],
  ['/.snapshots/', '\\x2esnapshots.mount'],
])('the mount unit of %s is %s', (path, unit) => {
  expect(mountUnit(path)).toBe(unit)
})
