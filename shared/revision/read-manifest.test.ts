import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Manifest, ManifestSchema } from '../gen/muster/v1/manifest_pb.ts'
import { judgeRevision, type RevisionInput } from './judge-revision.ts'
import { sampleFleetId, sampleNow, samplePayloadInput, sampleRevision } from './testing/sample-fleet.ts'

const good = sampleRevision()
/** A manifest that the builder would not make, signed all the same. */
function signAnyway(change: Partial<Manifest>): RevisionInput {
  return samplePayloadInput(
    toBinary(ManifestSchema, create(ManifestSchema, { ...good.manifest.manifest, ...change })),
  )
}

describe('a manifest that is signed but not whole', () => {
  it.each<[string, Partial<Manifest>]>([
    ['number', { number: 0n }],
    ['number', { number: 2n ** 63n }],
    ['predecessor', { predecessor: '' }],
    ['predecessor', { number: 1n, floor: 1n }],
    ['floor', { floor: 0n }],
    ['floor', { floor: 6n }],
    ['tree_digest', { treeDigest: '' }],
    ['tree_length', { treeLength: 0n }],
    ['tree_length', { treeLength: 2n ** 40n }],
    ['hosts', { hosts: [...good.manifest.manifest.hosts, ...good.manifest.manifest.hosts] }],
    ['hosts', { hosts: [{ ...good.manifest.manifest.hosts[0]!, host: '../olaf' }] }],
    ['hosts', { hosts: [{ ...good.manifest.manifest.hosts[0]!, targetDigest: '' }] }],
    ['fleet_id', { fleetId: '' }],
    ['created', { created: { ...timestampFromDate(sampleNow), nanos: -1 } }],
    ['expires', { expires: { ...timestampFromDate(sampleNow), seconds: 2n ** 62n } }],
    ['expires', { expires: good.manifest.manifest.created! }],
  ])('T2: is refused when its %s is missing or out of bounds', (field, change) => {
    const verdict = judgeRevision(signAnyway(change))
    expect(verdict).toMatchObject({ class: 'malformed', reason: expect.stringContaining(field) })
  })

  it.each(['created', 'expires', 'trustSet', 'provenance'] as const)('T2: is refused without %s', field => {
    const manifest = fromBinary(ManifestSchema, good.payload)
    delete manifest[field]
    expect(judgeRevision(samplePayloadInput(toBinary(ManifestSchema, manifest)))).toMatchObject({
      class: 'malformed',
    })
  })

  it('is refused when it is cut or no manifest at all', () => {
    for (let length = 1; length < good.payload.length; length += 7) {
      expect(judgeRevision(samplePayloadInput(good.payload.subarray(0, length))).kind).toBe('refused')
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), bytes => {
        expect(judgeRevision(samplePayloadInput(bytes)).kind).toBe('refused')
      }),
    )
  })

  it('is of this fleet in the sample, so that the refusals above have their own causes', () => {
    expect(good.manifest.manifest.fleetId).toBe(sampleFleetId)
    expect(judgeRevision(signAnyway({}))).toMatchObject({ kind: 'accepted' })
  })
})
