import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ClosureFetch,
  ClosureFetchSchema,
  SafetySchema,
  type Target,
  TargetSchema,
} from '../gen/muster/v1/manifest_pb.ts'
import { encodeTarget, readTarget } from './read-target.ts'
import { sameContent } from './same-content.ts'
import { sampleGroupTarget, sampleRevision, sampleTarget } from './testing/sample-fleet.ts'

const storePath = `/nix/store/${'0'.repeat(32)}-nixos-system-olaf-25.11`
const closure = (change: Partial<ClosureFetch> = {}): Target['way'] => ({
  case: 'closure',
  value: {
    ...create(ClosureFetchSchema, { storePath, publicKeys: ['k:x'], closureDigest: 'a'.repeat(64) }),
    ...change,
  },
})

describe('buildManifest', () => {
  it('gives the same bytes for the same input, in whatever order hosts and labels come', () => {
    const one = sampleRevision({
      targets: [sampleTarget({ labels: { a: '1', b: '2' } }), sampleGroupTarget()],
    })
    const two = sampleRevision({
      targets: [sampleGroupTarget(), sampleTarget({ labels: { b: '2', a: '1' } })],
    })
    expect(Buffer.from(two.payload).equals(one.payload)).toBe(true)
  })

  it.each<[string, Parameters<typeof sampleRevision>[0]]>([
    ['floor', { floor: 6 }],
    ['floor', { floor: 0 }],
    ['number', { number: 0, floor: 0 }],
    ['predecessor', { predecessor: '' }],
    ['expires', { expires: new Date(0) }],
    ['tree_length', { tree: { digest: 'd'.repeat(64), length: 0 } }],
    ['another fleet', { targets: [{ ...sampleTarget(), fleetId: 'f'.repeat(32) }] }],
    ['twice', { targets: [sampleTarget(), sampleTarget()] }],
    ['least_nix_version', { leastNixVersion: 'new' }],
  ])('refuses to build what machines would refuse: %s', (field, change) => {
    expect(() => sampleRevision(change)).toThrow(field)
  })
})

describe('sameContent', () => {
  const base = sampleRevision()
  const same = (change: Parameters<typeof sampleRevision>[0]) =>
    sameContent(base.manifest, sampleRevision(change).manifest)

  it('does not look at number, times and provenance', () => {
    const provenance = { commit: '', dirty: true, lockDigest: '', publisher: 'bob', tool: 'x' }
    expect(same({ number: 9, expires: new Date('2027-01-01T00:00:00Z'), provenance })).toBe(true)
  })

  it('sees another tree, another target, one more and one less', () => {
    expect(same({ tree: { digest: 'e'.repeat(64), length: 2048 } })).toBe(false)
    expect(same({ targets: [sampleTarget({ role: 'worker' }), sampleGroupTarget()] })).toBe(false)
    expect(same({ targets: [sampleTarget(), sampleGroupTarget(), sampleTarget({ host: 'anna' })] })).toBe(
      false,
    )
    expect(same({ targets: [sampleTarget()] })).toBe(false)
    expect(same({ leastNixVersion: '2.8' })).toBe(false)
  })
})

describe('targets', () => {
  it('come back from their bytes', () => {
    const { bytes, target } = encodeTarget(sampleTarget({ way: closure() }))
    expect(readTarget(bytes)).toEqual({ kind: 'ok', target })
  })

  it('have the same bytes whatever the order in which labels were written', () => {
    const labels = fc.uniqueArray(
      fc.tuple(fc.stringMatching(/^[a-z0-9]{1,6}$/), fc.stringMatching(/^[a-z]{0,3}$/)),
      { selector: ([name]) => name, maxLength: 12 },
    )
    const shuffled = labels.chain(list =>
      fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length })),
    )
    fc.assert(
      fc.property(shuffled, ([one, other]) => {
        const encode = (entries: [string, string][]) =>
          encodeTarget(sampleTarget({ labels: Object.fromEntries(entries) }))
        expect(encode(other)).toEqual(encode(one))
      }),
    )
    const unsorted = (of: Record<string, string>) => toBinary(TargetSchema, sampleTarget({ labels: of }))
    expect(unsorted({ a: '1', b: '2' })).not.toEqual(unsorted({ b: '2', a: '1' }))
  })

  it.each<[string, Target]>([
    ['host or a group', sampleTarget({ host: '' })],
    ['host or a group', { ...sampleTarget(), group: 'edge' }],
    ['name', sampleTarget({ host: '../etc' })],
    ['system', sampleTarget({ system: 'plan9' })],
    ['role', sampleTarget({ role: '' })],
    ['cluster', sampleTarget({ cluster: 'a b' })],
    [
      'labels',
      sampleTarget({ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ''])) }),
    ],
    ['attribute', sampleTarget({ way: { case: 'source', value: { ...sourceOf('olaf"; x') } } })],
    ['attribute', sampleTarget({ way: { case: 'source', value: { ...sourceOf('') } } })],
    ['store_path', sampleTarget({ way: closure({ storePath: `${storePath}/bin/sh` }) })],
    ['store_path', sampleTarget({ way: closure({ storePath: '/tmp/x' }) })],
    ['closure_digest', sampleTarget({ way: closure({ closureDigest: '' }) })],
    ['public_keys', sampleTarget({ way: closure({ publicKeys: [] }) })],
    ['white space', sampleTarget({ way: closure({ substituters: ['https://a https://b'] }) })],
    ['belong to groups', sampleTarget({ binding: { rule: 'true' } })],
    ['needs a rule', sampleGroupTarget({ binding: {} })],
    ['template', sampleGroupTarget({ binding: { rule: 'true', nameTemplate: 'edge' } })],
    ['mac', sampleTarget({ binding: { mac: '52:54:00:00:00:0A' } })],
    ['machine', sampleTarget({ binding: { machine: 'abc' } })],
    ['uuid', sampleTarget({ binding: { uuid: 'ABC' } })],
    ['safety', sampleTarget({ safety: create(SafetySchema, { gates: [{ name: 'web' }] }) })],
  ])('are refused where a field breaks its rule: %s', (field, target) => {
    expect(() => encodeTarget(target)).toThrow(field)
  })
})

function sourceOf(attribute: string) {
  return { $typeName: 'muster.v1.SourceBuild', attribute, leastMemoryBytes: 0n } as const
}
