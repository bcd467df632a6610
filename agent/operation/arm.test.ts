import { expect, it } from 'vitest'
import type { ArmRecord } from '../safety/arm-record.ts'
import { heldPaths, ownerOfRoot } from './arm.ts'

const store = (name: string) => `/nix/store/${name.padStart(32, '0')}-${name}`
const arm: ArmRecord = {
  operation: 'op',
  round: 1,
  mode: 'switch',
  target: store('new'),
  previous: store('old'),
  profile: store('default'),
  generation: 1,
  bootId: 'b',
  confirmMs: 1,
  switchMs: 1,
  units: 'systemd',
  program: [`${store('node')}/bin/node`, '--flag', `${store('agent')}/lib/main.js`],
  toolPath: [`${store('systemd')}/bin`, `${store('systemd')}/sbin`, `${store('nix')}/bin`, '/usr/bin'].join(
    ':',
  ),
  systemRoot: '/',
}

it('what the way back needs is held against the garbage collector, its tools too, and given up by its names', () => {
  const held = heldPaths(arm)
  expect(Object.fromEntries(held)).toEqual({
    previous: store('old'),
    profile: store('default'),
    target: store('new'),
    program: store('node'),
    script: store('agent'),
    'tool-0': store('systemd'),
    'tool-1': store('nix'),
  })
  for (const name of held.keys()) expect(ownerOfRoot(`op-tool-7-${name}`)).toBe('op-tool-7')
})
