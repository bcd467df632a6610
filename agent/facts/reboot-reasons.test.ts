import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Part } from '../plan/part.ts'
import type { SystemParts } from '../plan/reboot-reasons.ts'
import { rebootReasons } from './reboot-reasons.ts'

const value = (text: string): Part => ({ kind: 'value', value: text })
const base: SystemParts = {
  path: '/nix/store/a',
  kernel: value('/nix/store/k1/bzImage'),
  initrd: value('/nix/store/i1/initrd'),
  modules: value('/nix/store/m1'),
  params: value('loglevel=4'),
  initInterface: value('systemd 2'),
  systemd: value('/nix/store/s1'),
  inhibitors: value('{"dbus":"dbus","only-old":1}'),
}
const next = (parts: Partial<SystemParts>): SystemParts => ({ ...base, path: '/nix/store/b', ...parts })
const ask = (parts: Partial<SystemParts>, current = '/nix/store/b') =>
  rebootReasons({ booted: base, next: next(parts), current })

describe('T51: a reboot is wanted', () => {
  test.each<[string, Partial<SystemParts>]>([
    ['kernel', { kernel: value('/nix/store/k2/bzImage') }],
    ['initrd', { initrd: value('/nix/store/i2/initrd') }],
    ['modules', { modules: value('/nix/store/m2') }],
    ['params', { params: value('loglevel=4 quiet') }],
    ['init-interface', { initInterface: value('systemd 3') }],
    ['systemd', { systemd: value('/nix/store/s2') }],
    ['kernel', { kernel: { kind: 'missing' } }],
    ['inhibitor:dbus', { inhibitors: value('{"dbus":"broker","only-new":1}') }],
  ])('for %s when just that changed', (reason, parts) => {
    expect(ask(parts)).toEqual({ reasons: [reason], unknown: [] })
  })

  test('for a generation that waits for the next boot', () => {
    expect(ask({}, '/nix/store/a')).toEqual({ reasons: ['generation'], unknown: [] })
  })

  test('for no reason when nothing changed, or when another system is only tried', () => {
    expect(ask({})).toEqual({ reasons: [], unknown: [] })
    expect(rebootReasons({ booted: base, next: base, current: '/nix/store/x' }).reasons).toEqual([])
  })

  test('for no inhibitor that only one of the systems has, as in releases without the file', () => {
    expect(ask({ inhibitors: { kind: 'missing' } })).toEqual({ reasons: [], unknown: [] })
    expect(ask({ inhibitors: value('{"new":1}') }).reasons).toEqual([])
  })

  test('perhaps, when a part cannot be read: that is said and is not "no"', () => {
    expect(ask({ kernel: { kind: 'unknown' } })).toEqual({ reasons: [], unknown: ['kernel'] })
    expect(ask({ inhibitors: value('not json') })).toEqual({ reasons: [], unknown: ['inhibitors'] })
  })
})

test('T51: each part is a reason exactly when it differs, whatever else does', () => {
  const part = fc.constantFrom<Part>(value('1'), value('2'), { kind: 'missing' }, { kind: 'unknown' })
  const names = ['kernel', 'initrd', 'modules', 'params', 'systemd'] as const
  fc.assert(
    fc.property(
      fc.record({ kernel: part, initrd: part, modules: part, params: part, systemd: part }),
      parts => {
        const { reasons, unknown } = rebootReasons({
          booted: {
            ...base,
            kernel: value('1'),
            initrd: value('1'),
            modules: value('1'),
            params: value('1'),
            systemd: value('1'),
          },
          next: next(parts),
          current: '/nix/store/b',
        })
        for (const name of names) {
          const { [name]: given } = parts
          expect(unknown.includes(name)).toBe(given.kind === 'unknown')
          expect(reasons.includes(name)).toBe(
            given.kind === 'missing' || (given.kind === 'value' && given.value === '2'),
          )
        }
      },
    ),
  )
})
