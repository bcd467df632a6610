import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { describe, expect, it } from 'vitest'
import { type RebootPolicy, SafetySchema } from '../gen/muster/v1/manifest_pb.ts'
import { durationFromMs } from '../time.ts'
import { readSafety } from './safety.ts'

type Init = MessageInitShape<typeof SafetySchema>
type GateInit = NonNullable<Init['gates']>[number]

const reasonFor = (init: Init): string => {
  const reading = readSafety(create(SafetySchema, init))
  return reading.kind === 'refused' ? reading.reason : ''
}
const gate = (probe: GateInit['probe'], name = 'web'): Init =>
  probe === undefined ? { gates: [{ name }] } : { gates: [{ name, probe }] }

describe('readSafety', () => {
  it('of a target that says nothing gives what is documented', () => {
    const expected = {
      kind: 'ok',
      safety: {
        soakMs: 30_000,
        confirmWithinMs: 300_000,
        confirmLocally: false,
        reboot: 'never',
        trial: 'auto',
        toleratedUnits: [],
        gates: [],
      },
    }
    expect(readSafety(undefined)).toEqual(expected)
    expect(readSafety(create(SafetySchema))).toEqual(expected)
  })

  // A target is signed, and may still come from a program that knows more, or less, than this one.
  it.each<[string, Init, string]>([
    ['a soak time below none', { soak: durationFromMs(-1_000) }, 'soak: must be from 0'],
    ['a confirm time above the most', { confirmWithin: durationFromMs(7 * 3_600_000) }, 'confirm_within'],
    [
      'a confirm time that leaves no time to ask',
      { soak: durationFromMs(300_000) },
      'must exceed the soak time',
    ],
    ['a policy of a later version', { reboot: 9 as RebootPolicy }, 'reboot: the policy 9 is not known'],
    ['a gate that asks nothing known', gate(undefined), 'gate web: asks nothing that is known here'],
    [
      'a gate without a good name',
      gate({ case: 'tcp', value: { address: 'a:1' } }, '../x'),
      'gate: the name',
    ],
    ['a unit that is an option', gate({ case: 'units', value: { units: ['--all'] } }), 'gate web units'],
    ['no unit', gate({ case: 'units', value: { units: [] } }), 'gate web units: must be from 1'],
    [
      'a URL of another scheme',
      gate({ case: 'http', value: { url: 'file:///etc/passwd' } }),
      'gate web http',
    ],
    [
      'a status that none is',
      gate({ case: 'http', value: { url: 'http://a', status: 7 } }),
      'gate web status',
    ],
    ['an address without port', gate({ case: 'tcp', value: { address: 'a' } }), 'gate web tcp'],
    ['no space', gate({ case: 'disk', value: { path: '/', freeBytes: 0n } }), 'gate web free_bytes'],
    ['a folder above', gate({ case: 'disk', value: { path: '/a/../b', freeBytes: 1n } }), 'gate web disk'],
    ['a host that is an option', gate({ case: 'reach', value: { hosts: ['-f'] } }), 'gate web reach'],
    ['a script outside', gate({ case: 'script', value: { path: 'a/../../b' } }), 'gate web script'],
    ['a script of the machine', gate({ case: 'script', value: { path: '/bin/sh' } }), 'gate web script'],
    [
      'an argument that no program can get',
      gate({ case: 'script', value: { path: 'a', arguments: ['\0'] } }),
      'gate web arguments',
    ],
    [
      'a gate twice',
      {
        gates: [
          { name: 'web', probe: { case: 'tcp', value: { address: 'a:1' } } },
          { name: 'web', probe: { case: 'tcp', value: { address: 'a:2' } } },
        ],
      },
      'gate web: stands there twice',
    ],
    [
      'a unit that must run and may fail',
      { ...gate({ case: 'units', value: { units: ['a.service'] } }), toleratedUnits: ['a.service'] },
      'gate web: asks for a.service, which may fail',
    ],
    [
      'more gates than any host has',
      {
        gates: Array.from({ length: 65 }, (_, index) => ({
          name: `g${index}`,
          probe: { case: 'tcp', value: { address: 'a:1' } } as const,
        })),
      },
      'gates: must be from 0 to 64',
    ],
  ])('refuses %s', (_, init, reason) => {
    expect(reasonFor(init)).toContain(reason)
  })
})
