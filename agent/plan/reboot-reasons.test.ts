import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Part } from './part.ts'
import { compareParts, rebootReasons, type SystemParts } from './reboot-reasons.ts'

const value = (text: string): Part => ({ kind: 'value', value: text })
const base: SystemParts = {
  path: '/nix/store/a',
  kernel: value('/nix/store/k1/bzImage'),
  initrd: value('/nix/store/i1/initrd'),
  modules: value('/nix/store/m1'),
  params: value('loglevel=4'),
  initInterface: value('systemd 2'),
  systemd: value('/nix/store/s1'),
  inhibitors: value('{"dbus-implementation":"dbus","old":1}'),
  triggers: value('{"firmware":"f1"}'),
}
const target = (parts: Partial<SystemParts>): SystemParts => ({ ...base, path: '/nix/store/b', ...parts })
/** "kind key before>after!" with the exclamation mark where only a reboot reaches it. */
const ask = (parts: Partial<SystemParts>, current: SystemParts | undefined = base) => {
  const { reasons, unknown, required } = rebootReasons({ booted: base, current, target: target(parts) })
  const words = reasons.map(
    reason =>
      `${[reason.kind, reason.key].filter(Boolean).join(' ')} ${reason.before}>${reason.after}${reason.required ? '!' : ''}`,
  )
  return { words, unknown, required }
}

describe('T51: a target', () => {
  test.each<[string, Partial<SystemParts>]>([
    ['kernel /nix/store/k1/bzImage>/nix/store/k2/bzImage', { kernel: value('/nix/store/k2/bzImage') }],
    ['initrd /nix/store/i1/initrd>', { initrd: { kind: 'missing' } }],
    ['kernel-modules /nix/store/m1>/nix/store/m2', { modules: value('/nix/store/m2') }],
    ['kernel-params loglevel=4>quiet', { params: value('quiet') }],
    ['systemd /nix/store/s1>/nix/store/s2', { systemd: value('/nix/store/s2') }],
    ['reboot-trigger firmware f1>f2', { triggers: value('{"firmware":"f2","more":"x"}') }],
  ])('is in effect as a whole only after a reboot for: %s', (words, parts) => {
    expect(ask(parts)).toEqual({ words: [words], unknown: [], required: false })
  })

  test.each<[string, Partial<SystemParts>]>([
    ['init-interface systemd 2>systemd 3!', { initInterface: value('systemd 3') }],
    [
      'inhibitor dbus-implementation dbus>broker!',
      { inhibitors: value('{"dbus-implementation":"broker","new":1}') },
    ],
  ])('can only be reached by a reboot for: %s', (words, parts) => {
    expect(ask(parts)).toEqual({ words: [words], unknown: [], required: true })
  })

  test('is judged by what runs where the switch itself would refuse, by what was booted for the rest', () => {
    const current = {
      ...target({ initInterface: value('systemd 3'), kernel: value('k3') }),
      path: '/nix/store/c',
    }
    expect(ask({ initInterface: value('systemd 3') }, current)).toEqual({
      words: [],
      unknown: [],
      required: false,
    })
    expect(ask({ kernel: base.kernel }, current).required).toBe(true)
  })

  test('can only be booted when nobody knows what runs: the switch compares with nothing and refuses', () => {
    const answer = rebootReasons({ booted: base, current: undefined, target: target({}) })
    expect(answer).toMatchObject({ required: true, reasons: [{ kind: 'no-current-system', required: true }] })
  })

  test('is unknown, not unchanged, where a part cannot be read', () => {
    expect(ask({ kernel: { kind: 'unknown' }, inhibitors: value('no json') })).toEqual({
      words: [],
      unknown: ['inhibitor', 'kernel'],
      required: false,
    })
  })
})

test('no system needs a reboot to become itself, and differences are the same both ways round', () => {
  const part = fc.constantFrom<Part>(value('1'), value('2'), { kind: 'missing' }, { kind: 'unknown' })
  const json = fc.constantFrom<Part>(
    value('{"a":1}'),
    value('{"a":2,"b":1}'),
    { kind: 'missing' },
    value('x'),
  )
  const parts = fc.record({
    path: fc.constantFrom('/nix/store/x', '/nix/store/y'),
    kernel: part,
    initrd: part,
    modules: part,
    params: part,
    initInterface: part,
    systemd: part,
    inhibitors: json,
    triggers: json,
  })
  fc.assert(
    fc.property(parts, parts, (a, b) => {
      expect(compareParts(a, a)).toEqual({ differences: [], unknown: [] })
      const [there, back] = [compareParts(a, b), compareParts(b, a)]
      expect(back.unknown).toEqual(there.unknown)
      expect(back.differences.map(({ kind, key }) => [kind, key])).toEqual(
        there.differences.map(({ kind, key }) => [kind, key]),
      )
    }),
  )
})
