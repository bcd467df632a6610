import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { signEnvelope } from '../envelope/envelope.ts'
import { generateSigningKey } from '../envelope/keys.ts'
import { MANIFEST_TYPE } from '../envelope/payload-types.ts'
import { HostEntrySchema, ManifestSchema, TargetSchema } from '../gen/muster/v1/manifest_pb.ts'
import { makeNextTrustSet } from '../trust/make-trust-set.ts'
import type { ManifestInput } from './build-manifest.ts'
import { judgePublish, type PublishInput } from './judge-publish.ts'
import { targetDigest } from './read-target.ts'
import {
  type SampleRevision,
  sampleGroupTarget,
  sampleKey,
  sampleNow,
  sampleRevision,
  sampleTarget,
  sampleTrust,
} from './testing/sample-fleet.ts'

const newest = sampleRevision()
const otherTree = { digest: 'e'.repeat(64), length: 4096 }

function successor(change: Partial<ManifestInput> = {}): SampleRevision {
  return sampleRevision({ number: 6, predecessor: newest.manifest.digest, tree: otherTree, ...change })
}
function judge(revision: SampleRevision, change: Partial<PublishInput> = {}) {
  return judgePublish({
    newest: newest.manifest,
    envelope: revision.envelope,
    targets: revision.targets.map(({ bytes }) => bytes),
    trust: sampleTrust.trust,
    expectedPredecessor: revision.manifest.manifest.predecessor,
    renew: false,
    now: sampleNow,
    ...change,
  })
}

describe('judgePublish', () => {
  it('accepts the successor of the newest', () => {
    const next = successor()
    expect(judge(next)).toMatchObject({
      kind: 'accepted',
      manifest: { number: 6, digest: next.manifest.digest },
      targets: next.targets.map(({ digest }) => ({ digest })),
      trustChanged: false,
    })
  })

  it('accepts the first, and any number into an empty store', () => {
    const first = sampleRevision({ number: 1, floor: 1 })
    expect(judge(first, { newest: undefined })).toMatchObject({ kind: 'accepted' })
    expect(judge(newest, { newest: undefined })).toMatchObject({ kind: 'accepted' })
    expect(judge(newest, { newest: undefined, expectedPredecessor: '' })).toMatchObject({
      class: 'malformed',
    })
  })

  it('lets one of two operators win who started from the same revision', () => {
    const [anns, bobs] = [successor(), successor({ floor: 4 })]
    expect(judge(anns)).toMatchObject({ kind: 'accepted' })
    expect(judge(bobs, { newest: anns.manifest })).toMatchObject({ kind: 'refused', class: 'conflict' })
  })

  it('wants exactly the next number', () => {
    for (const number of [2, 5, 7]) {
      const verdict = judge(successor({ number, floor: 1 }))
      expect(verdict).toMatchObject({ kind: 'refused', class: 'number' })
    }
  })

  it('refuses a floor that falls', () => {
    expect(judge(successor({ floor: 2 }))).toMatchObject({ class: 'floor' })
    expect(judge(successor({ floor: 6 }))).toMatchObject({ kind: 'accepted' })
  })

  it('refuses strangers, other times and other targets', () => {
    expect(judge(sampleRevision({ number: 6 }, generateSigningKey()))).toMatchObject({ class: 'signature' })
    expect(judge(successor(), { now: new Date(0) })).toMatchObject({ class: 'future' })
    expect(judge(successor(), { now: new Date('2030-01-01') })).toMatchObject({ class: 'expired' })
    const [one, two] = successor().targets.map(({ bytes }) => bytes)
    for (const targets of [
      [],
      [one!],
      [one!, one!],
      [one!, two!, two!],
      [one!, successor({ targets: [sampleTarget({ host: 'anna' })] }).targets[0]!.bytes],
    ]) {
      expect(judge(successor(), { targets })).toMatchObject({ kind: 'refused', class: 'targets' })
    }
    expect(judge(successor(), { targets: [one!, Buffer.from('no target')] })).toMatchObject({
      class: 'malformed',
    })
  })

  it('refuses a target of another fleet, even when a good manifest names it', () => {
    const bytes = toBinary(TargetSchema, { ...sampleTarget(), fleetId: 'f'.repeat(32) })
    const entry = create(HostEntrySchema, { host: 'olaf', targetDigest: targetDigest(bytes) })
    const manifest = create(ManifestSchema, { ...successor().manifest.manifest, hosts: [entry], groups: [] })
    const envelope = signEnvelope(toBinary(ManifestSchema, manifest), MANIFEST_TYPE, [sampleKey])
    expect(judge(successor(), { envelope, targets: [bytes] })).toMatchObject({
      kind: 'refused',
      class: 'fleet',
    })
  })

  it('publishes nothing when tree and targets are those of the newest', () => {
    const again = successor({ tree: { digest: newest.manifest.manifest.treeDigest, length: 2048 } })
    expect(judge(again)).toMatchObject({ kind: 'unchanged', manifest: { number: 5 } })
    expect(judge(again, { renew: true })).toMatchObject({ kind: 'accepted' })
  })

  it('says unchanged to a publisher who did not hear the first answer', () => {
    const next = successor()
    expect(judge(next, { newest: next.manifest })).toMatchObject({
      kind: 'unchanged',
      manifest: { number: 6 },
    })
  })

  it('publishes an unchanged tree when the floor rises or the trust set is new', () => {
    const tree = { digest: newest.manifest.manifest.treeDigest, length: 2048 }
    expect(judge(successor({ tree, floor: 5 }))).toMatchObject({ kind: 'accepted' })
    const next = makeNextTrustSet({
      current: sampleTrust.trust,
      change: {},
      created: sampleNow,
      signers: [sampleKey],
    })
    expect(judge(successor({ tree, trustSet: next.envelope }))).toMatchObject({
      kind: 'accepted',
      trustChanged: true,
    })
    expect(judge(successor({ tree }), { trust: next.trust })).toMatchObject({ class: 'trust' })
  })

  it('renews only what is the same', () => {
    expect(judge(successor(), { renew: true })).toMatchObject({ class: 'renew' })
    const grown = [sampleTarget(), sampleGroupTarget(), sampleTarget({ host: 'anna' })]
    const tree = { digest: newest.manifest.manifest.treeDigest, length: 2048 }
    expect(judge(successor({ tree, targets: grown }), { renew: true })).toMatchObject({ class: 'renew' })
  })

  it('keeps one unbroken chain with a floor that never falls, whoever publishes what', () => {
    const attempt = fc.record({
      base: fc.nat(5),
      skip: fc.integer({ min: 0, max: 2 }),
      floor: fc.integer({ min: 1, max: 8 }),
    })
    fc.assert(
      fc.property(fc.array(attempt, { maxLength: 8 }), attempts => {
        const chain = [newest]
        for (const { base, skip, floor } of attempts) {
          const from = chain[Math.min(base, chain.length - 1)]!.manifest
          const number = from.number + skip
          const revision = successor({
            number,
            predecessor: from.digest,
            floor: Math.min(floor, number),
            tree: { digest: 'd'.repeat(64), length: 512 * (chain.length + 1) },
          })
          const verdict = judge(revision, { newest: chain.at(-1)!.manifest })
          if (verdict.kind === 'accepted') chain.push(revision)
        }
        for (const [index, { manifest }] of chain.entries()) {
          const before = chain[index - 1]?.manifest
          if (!before) continue
          expect(manifest.number).toBe(before.number + 1)
          expect(manifest.manifest.predecessor).toBe(before.digest)
          expect(manifest.floor).toBeGreaterThanOrEqual(before.floor)
        }
      }),
      { numRuns: 40 },
    )
  })
})
