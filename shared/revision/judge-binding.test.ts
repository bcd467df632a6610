import { describe, expect, it } from 'vitest'
import { freshMemory, judgeRevision, type RevisionInput } from './judge-revision.ts'
import {
  sampleGroupTarget,
  sampleHardware,
  sampleInput,
  sampleRevision,
  sampleRule,
  sampleTarget,
} from './testing/sample-fleet.ts'

const good = sampleRevision()
const judge = (change: Partial<RevisionInput> = {}, revision = good) =>
  judgeRevision(sampleInput(revision, change))

describe('binding', () => {
  const bound = sampleRevision({
    targets: [
      sampleTarget({
        binding: {
          machine: sampleHardware.machineId,
          serial: 'SN123',
          uuid: '11111111-2222-3333-4444-555555555555',
          mac: '52:54:00:00:00:01',
          diskSerial: 'S4EVNX0M123456',
        },
      }),
    ],
  })

  it('holds when every part holds', () => {
    const hardware = {
      ...sampleHardware,
      uuid: sampleHardware.uuid?.toUpperCase(),
      macs: ['52:54:00:00:00:01'.toUpperCase()],
    }
    expect(judge({ hardware }, bound)).toMatchObject({ kind: 'accepted', loose: false })
  })

  it.each([
    ['machine', { machineId: 'cd'.repeat(32) }],
    ['serial', { serial: 'SN124' }],
    ['uuid', { uuid: '21111111-2222-3333-4444-555555555555' }],
    ['mac', { macs: ['52:54:00:00:00:03'] }],
    ['disk serial', { diskSerials: ['other'] }],
  ])('refuses the wrong machine when its %s is another', (part, change) => {
    const verdict = judge({ hardware: { ...sampleHardware, ...change } }, bound)
    expect(verdict).toMatchObject({ class: 'wrong-machine', reason: expect.stringContaining(part) })
  })

  it.each([
    ['serial', { serial: undefined }],
    ['serial', { serial: '' }],
    ['uuid', { uuid: undefined }],
    ['mac', { macs: undefined }],
    ['mac', { macs: [] }],
    ['disk serial', { diskSerials: undefined }],
    ['disk serial', { diskSerials: [''] }],
  ])('T2: refuses when the %s cannot be read', (part, change) => {
    const verdict = judge({ hardware: { ...sampleHardware, ...change } }, bound)
    expect(verdict).toMatchObject({ class: 'unreadable-fact', reason: expect.stringContaining(part) })
  })

  it('lets the signed binding give a machine another host', () => {
    expect(judge({ memory: { ...freshMemory, host: 'anna' } })).toMatchObject({
      kind: 'accepted',
      host: 'olaf',
    })
  })

  it('takes a loose binding once, and no other host after it', () => {
    const loose = sampleRevision({ targets: [sampleTarget({ binding: {} })] })
    expect(judge({}, loose)).toMatchObject({ kind: 'accepted', loose: true, newMemory: { host: 'olaf' } })
    expect(judge({ memory: { ...freshMemory, host: 'olaf' } }, loose)).toMatchObject({ kind: 'accepted' })
    expect(judge({ memory: { ...freshMemory, host: 'anna' } }, loose)).toMatchObject({
      class: 'host-changed',
    })
  })
})

describe('groups', () => {
  const verdict = { rule: sampleRule, kind: 'match', reason: '' } as const
  const asEdge = (change: Partial<RevisionInput> = {}, revision = good) =>
    judge(
      {
        targetBytes: revision.targets.at(-1)!.bytes,
        assignment: { host: 'edge-sn123', group: 'edge' },
        ruleVerdict: verdict,
        ...change,
      },
      revision,
    )

  it('make a machine a host whose name the signed template gives', () => {
    expect(asEdge()).toMatchObject({
      kind: 'accepted',
      host: 'edge-sn123',
      newMemory: { host: 'edge-sn123' },
    })
    expect(asEdge({ assignment: { host: 'edge-1', group: 'edge' } })).toMatchObject({
      class: 'wrong-machine',
    })
    expect(asEdge({ hardware: { ...sampleHardware, serial: undefined } })).toMatchObject({
      class: 'unreadable-fact',
    })
    expect(asEdge({ hardware: { ...sampleHardware, serial: 'a b' } })).toMatchObject({ class: 'malformed' })
  })

  it('need the verdict of the very rule that was signed', () => {
    expect(asEdge({ ruleVerdict: undefined })).toMatchObject({ class: 'unreadable-fact' })
    expect(asEdge({ ruleVerdict: { ...verdict, rule: 'true' } })).toMatchObject({ class: 'target-mismatch' })
    expect(asEdge({ ruleVerdict: { ...verdict, kind: 'no-match' } })).toMatchObject({
      class: 'wrong-machine',
    })
    expect(asEdge({ ruleVerdict: { ...verdict, kind: 'error' } })).toMatchObject({ class: 'unreadable-fact' })
  })

  it('may not name a machine like a host of its own', () => {
    const taken = sampleRevision({ targets: [sampleTarget({ host: 'edge-sn123' }), sampleGroupTarget()] })
    expect(asEdge({}, taken)).toMatchObject({ class: 'target-mismatch' })
  })

  it('take no machine that acted as a host which is listed still', () => {
    const was = (host: string) => asEdge({ memory: { ...freshMemory, host } })
    expect(was('olaf')).toMatchObject({ class: 'host-changed', reason: expect.stringContaining('olaf') })
    // Its host was taken from the signed file, or it is the group's already, under the name of an older template.
    expect(was('anna')).toMatchObject({ kind: 'accepted', host: 'edge-sn123' })
    expect(was('edge-sn123')).toMatchObject({ kind: 'accepted' })
  })

  it('hold hardware parts beside the rule', () => {
    const both = sampleRevision({
      targets: [
        sampleGroupTarget({
          binding: { rule: sampleRule, nameTemplate: 'edge-{serial}', diskSerial: 'other' },
        }),
      ],
    })
    expect(asEdge({}, both)).toMatchObject({ class: 'wrong-machine' })
  })
})
