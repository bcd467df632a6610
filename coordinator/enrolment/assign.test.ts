import { create, type MessageInitShape } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TargetSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import type { Hardware } from '../../shared/revision/expand-name.ts'
import { indexTargets } from '../revisions/fleet-targets.ts'
import { assignHost, type RuleVerdict } from './assign.ts'

const me: Hardware = {
  machineId: 'ab'.repeat(32),
  serial: 'S1',
  uuid: 'u1',
  macs: ['02:00:00:00:00:01'],
  diskSerials: ['D1'],
}
const fleet = (...targets: MessageInitShape<typeof TargetSchema>[]) =>
  indexTargets(
    1,
    '',
    targets.map(target => create(TargetSchema, target)),
  )
const matching = new Map<string, RuleVerdict>([['edge', { kind: 'match' }]])
const none = new Map<string, RuleVerdict>()
const edge = { group: 'edge', binding: { rule: 'true', nameTemplate: 'edge-{serial}' } }

describe('assignHost', () => {
  it('goes by the key, then hardware, then a rule, then a hand', () => {
    const key = { host: 'by-key', binding: { machine: me.machineId } }
    const disk = { host: 'by-disk', binding: { diskSerial: 'D1' } }
    expect(assignHost(me, fleet(key, disk, edge), 'by-hand', matching)).toMatchObject({
      host: 'by-key',
      boundBy: 'key',
    })
    expect(assignHost(me, fleet(disk, edge), 'by-hand', matching)).toMatchObject({
      host: 'by-disk',
      boundBy: 'hardware',
    })
    expect(assignHost(me, fleet(edge), 'by-hand', matching)).toMatchObject({
      host: 'edge-s1',
      group: 'edge',
      boundBy: 'rule',
    })
    expect(assignHost(me, fleet(edge), 'by-hand', none)).toMatchObject({ host: 'by-hand', boundBy: 'hand' })
    expect(assignHost(me, fleet(edge), undefined, none)).toMatchObject({ kind: 'none' })
  })

  it.each([
    ['serial', { serial: 'S1' }],
    ['UUID in any case', { uuid: 'U1' }],
    ['MAC in any case', { mac: '02:00:00:00:00:01'.toUpperCase() }],
    ['disk serial', { diskSerial: 'D1' }],
  ])('finds a host by its %s', (_, binding) => {
    expect(assignHost(me, fleet({ host: 'olaf', binding }), undefined, none)).toMatchObject({ host: 'olaf' })
  })

  it('wants every part that the file names, and takes nothing absent for equal', () => {
    const both = fleet({ host: 'olaf', binding: { serial: 'S1', diskSerial: 'D2' } })
    expect(assignHost(me, both, undefined, none)).toMatchObject({ kind: 'none' })
    const blank: Hardware = { machineId: me.machineId, serial: '', macs: [], diskSerials: [] }
    expect(
      assignHost(blank, fleet({ host: 'olaf', binding: { serial: 'S1' } }), undefined, none),
    ).toMatchObject({ kind: 'none' })
  })

  it.each([
    ['a rule that holds', matching, undefined],
    ['a host bound by hand', none, 'spare'],
  ])('makes no other host of a listed one whose part was replaced, for %s', (_, verdicts, hand) => {
    const olaf = { host: 'olaf', binding: { serial: 'S1', mac: '02:00:00:00:00:09' } }
    const listed = fleet(olaf, { host: 'spare' }, edge)
    expect(assignHost(me, listed, hand, verdicts)).toEqual({
      kind: 'conflict',
      reason: expect.stringMatching(/^it has the serial of host olaf in the fleet file, but not its MAC;/),
    })
    // The part that fits leads to a whole host: then nothing is open.
    const bruno = { host: 'bruno', binding: { diskSerial: 'D1' } }
    expect(assignHost(me, fleet(olaf, bruno, edge), hand, verdicts)).toMatchObject({
      host: 'bruno',
      boundBy: 'hardware',
    })
  })

  it('names what is another of a host that it is not, and tells nobody what the file wants', () => {
    const olaf = fleet({
      host: 'olaf',
      binding: { machine: 'cd'.repeat(32), serial: 'S1', diskSerial: 'D2' },
    })
    expect(assignHost(me, olaf, undefined, none)).toEqual({
      kind: 'none',
      reason: 'it has the serial of host olaf in the fleet file, but not its key and disk serial',
    })
  })

  it.each([
    [
      'hardware of two hosts',
      fleet({ host: 'a', binding: { serial: 'S1' } }, { host: 'b', binding: { diskSerial: 'D1' } }),
      none,
      undefined,
    ],
    [
      'rules of two groups',
      fleet(edge, { ...edge, group: 'other' }),
      new Map([...matching, ['other', { kind: 'match' } as const]]),
      undefined,
    ],
    ['a rule that names a listed host', fleet(edge, { host: 'edge-s1' }), matching, undefined],
    [
      'its key, but other hardware',
      fleet({ host: 'a', binding: { machine: me.machineId, serial: 'S2' } }),
      none,
      undefined,
    ],
    ['a hand that the file contradicts', fleet({ host: 'a', binding: { serial: 'S2' } }), none, 'a'],
    [
      'a rule without a usable name',
      fleet({ group: 'edge', binding: { rule: 'true', nameTemplate: 'no-placeholder' } }),
      matching,
      undefined,
    ],
  ])('sees a conflict in %s', (_, targets, verdicts, hand) => {
    expect(assignHost(me, targets, hand, verdicts)).toMatchObject({ kind: 'conflict' })
  })

  it('never gives a listed host to a machine that lacks a part which the file names for it', () => {
    const text = fc.constantFrom('', 'x', 'y')
    const hardware = fc.record({ serial: text, uuid: text, disk: text })
    const hosts = fc.uniqueArray(
      fc.record({ host: fc.constantFrom('a', 'b', 'c'), serial: text, uuid: text, disk: text }),
      { selector: ({ host }) => host },
    )
    const verdict = fc.constantFrom(none, matching)
    fc.assert(
      fc.property(
        hardware,
        hosts,
        fc.constantFrom(undefined, 'a', 'd'),
        verdict,
        (has, listed, hand, rule) => {
          const targets = fleet(
            edge,
            ...listed.map(({ host, serial, uuid, disk }) => ({
              host,
              binding: { serial, uuid, diskSerial: disk },
            })),
          )
          const machine: Hardware = {
            machineId: me.machineId,
            serial: has.serial || undefined,
            uuid: has.uuid || undefined,
            diskSerials: has.disk ? [has.disk] : [],
          }
          const assignment = assignHost(machine, targets, hand, rule)
          if (assignment.kind !== 'host') return
          const claims = (part: 'serial' | 'uuid' | 'disk') =>
            listed.filter(one => has[part] !== '' && one[part] === has[part])
          const alone = (['serial', 'uuid', 'disk'] as const).some(part => claims(part).length === 1)
          // Whoever shows a listed host's part is that host or none.
          if (assignment.boundBy === 'rule' || assignment.boundBy === 'hand') expect(alone).toBe(false)
          const entry = listed.find(({ host }) => host === assignment.host)
          for (const part of ['serial', 'uuid', 'disk'] as const) {
            if (entry?.[part]) expect(has[part]).toBe(entry[part])
          }
          if (assignment.boundBy === 'hand') expect(assignment.host).toBe(hand)
        },
      ),
      { numRuns: 1_000 },
    )
  })
})
