import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { generateSigningKey } from '../envelope/keys.ts'
import { type Manifest, ManifestSchema, TargetSchema } from '../gen/muster/v1/manifest_pb.ts'
import { makeFirstTrustSet, makeNextTrustSet } from '../trust/make-trust-set.ts'
import {
  freshMemory,
  judgeRevision,
  type KnownMemory,
  MAX_SKEW_MS,
  type RevisionInput,
} from './judge-revision.ts'
import { manifestDigest } from './read-manifest.ts'
import { targetDigest } from './read-target.ts'
import {
  type SampleRevision,
  sampleInput,
  sampleKey,
  sampleNow,
  samplePayloadInput,
  sampleRecoveryKey,
  sampleRevision,
  sampleTarget,
  sampleTrust,
} from './testing/sample-fleet.ts'

const good = sampleRevision()
const minutes = (count: number) => new Date(sampleNow.getTime() + count * 60_000)

const judge = (change: Partial<RevisionInput> = {}, revision = good) =>
  judgeRevision(sampleInput(revision, change))

/** A manifest that the builder would not make, signed all the same. */
function signAnyway(change: Partial<Manifest>): RevisionInput {
  return samplePayloadInput(
    toBinary(ManifestSchema, create(ManifestSchema, { ...good.manifest.manifest, ...change })),
  )
}
const memory = (highest: number, floor: number, digest = '9'.repeat(64)): KnownMemory => ({
  kind: 'known',
  highest,
  highestDigest: digest,
  floor,
})
function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const bad = Uint8Array.from(bytes)
  bad[bit >> 3]! ^= 1 << (bit & 7)
  return bad
}

describe('a good revision', () => {
  it('is accepted, with what is to be remembered of it', () => {
    expect(judge()).toMatchObject({
      kind: 'accepted',
      host: 'olaf',
      loose: false,
      trustChanged: false,
      signers: [sampleKey.keyId],
      target: { cluster: 'home' },
      newMemory: { highest: 5, highestDigest: good.manifest.digest, floor: 3, host: 'olaf' },
    })
  })

  it('N23: is accepted with fields that this program does not know, because bytes are verified', () => {
    const unknown = Buffer.concat([good.payload, Buffer.from('c23e0568656c6c6f', 'hex')]) // field 1000, "hello"
    const input = samplePayloadInput(unknown)
    expect(judgeRevision(input)).toMatchObject({
      kind: 'accepted',
      manifest: { digest: input.order.manifestDigest },
    })
    expect(input.order.manifestDigest).not.toBe(good.manifest.digest)
  })
})

describe('signatures', () => {
  it('refuses a manifest in which any bit is flipped', () => {
    for (let bit = 0; bit < good.payload.length * 8; bit++) {
      const envelope = { ...good.envelope, payload: flipped(good.payload, bit) }
      expect(judge({ envelope })).toMatchObject({ kind: 'refused', class: 'signature' })
    }
  })

  it('refuses a target in which any bit is flipped', () => {
    const { bytes } = good.targets[0]!
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      expect(judge({ targetBytes: flipped(bytes, bit) })).toMatchObject({ class: 'target-mismatch' })
    }
  })

  it('refuses a stranger, a recovery key, and the absence of an envelope', () => {
    for (const key of [generateSigningKey(), sampleRecoveryKey]) {
      expect(judge({}, sampleRevision({}, key))).toMatchObject({ kind: 'refused', class: 'signature' })
    }
    expect(judge({ envelope: undefined })).toMatchObject({ class: 'signature' })
  })

  it('too few of them name the cure where the keys were replaced since', () => {
    const gone = sampleRevision({}, generateSigningKey())
    expect(judge({}, gone)).toMatchObject({
      reason: expect.stringMatching(/0 good ones.*muster publish --renew/),
    })
  })

  it('refuses a trust set that is signed as if it were a manifest', () => {
    expect(judge({ envelope: sampleTrust.envelope })).toMatchObject({ class: 'signature' })
  })

  it('T4: refuses an old manifest under a new number', () => {
    const relabelled = fromBinary(ManifestSchema, good.payload)
    relabelled.number = 9n
    const payload = toBinary(ManifestSchema, relabelled)
    const order = { revision: 9, manifestDigest: manifestDigest(payload) }
    expect(judge({ envelope: { ...good.envelope, payload }, order })).toMatchObject({ class: 'signature' })
    expect(judge({ order: { revision: 9, manifestDigest: good.manifest.digest } })).toMatchObject({
      class: 'order-mismatch',
    })
  })

  it('refuses another fleet with the very same keys', () => {
    const { trust } = makeFirstTrustSet({
      fleetId: 'f'.repeat(32),
      keys: [{ key: sampleKey, comment: '' }],
      threshold: 1,
      recoveryKeys: [],
      caPins: [],
      coordinators: [],
      created: minutes(-100),
      signers: [sampleKey],
    })
    expect(judge({ trust })).toMatchObject({ kind: 'refused', class: 'fleet' })
  })
})

describe('the next trust set', () => {
  const next = makeNextTrustSet({
    current: sampleTrust.trust,
    change: { coordinators: ['new.home:7443'] },
    created: minutes(-10),
    signers: [sampleKey],
  })

  it('travels in a manifest and counts when the old keys signed it', () => {
    expect(judge({}, sampleRevision({ trustSet: next.envelope }))).toMatchObject({
      kind: 'accepted',
      trustChanged: true,
      trust: { number: 2 },
    })
  })

  it('is refused, and the revision with it, when they did not', () => {
    const trustSet = { ...next.envelope, signatures: [] }
    expect(judge({}, sampleRevision({ trustSet }))).toMatchObject({ kind: 'refused', class: 'signature' })
  })

  it('does not go back when an older revision carries an older one', () => {
    expect(judge({ trust: next.trust })).toMatchObject({
      kind: 'accepted',
      trustChanged: false,
      trust: { number: 2 },
    })
  })
})

describe('time', () => {
  it('N26: refuses on both sides, with five minutes of grace towards the future', () => {
    const created = sampleRevision({ created: minutes(0), expires: minutes(60) })
    const at = (now: Date) => judge({ now }, created)
    expect(at(new Date(sampleNow.getTime() - MAX_SKEW_MS))).toMatchObject({ kind: 'accepted' })
    expect(at(new Date(sampleNow.getTime() - MAX_SKEW_MS - 1))).toMatchObject({ class: 'future' })
    expect(at(new Date(minutes(60).getTime() - 1))).toMatchObject({ kind: 'accepted' })
    expect(at(minutes(60))).toMatchObject({ class: 'expired' })
  })

  it('refuses without a clock, or with one that is wrong', () => {
    expect(judge({ now: new Date(Number.NaN) })).toMatchObject({ class: 'clock' })
    expect(judge({ clockSkewMs: MAX_SKEW_MS })).toMatchObject({ kind: 'accepted' })
    for (const clockSkewMs of [MAX_SKEW_MS + 1, -MAX_SKEW_MS - 1, Number.NaN]) {
      expect(judge({ clockSkewMs })).toMatchObject({ class: 'clock' })
    }
  })
})

describe('numbers', () => {
  it('T5: refuses an older revision below the floor, however good its signature', () => {
    expect(judge({ memory: memory(9, 6) })).toMatchObject({ class: 'rollback' })
  })

  it('takes an older one from the floor on, and remembers the higher', () => {
    expect(judge({ memory: memory(9, 5) })).toMatchObject({ newMemory: { highest: 9, floor: 5 } })
  })

  it('takes the highest again only with the same digest', () => {
    expect(judge({ memory: memory(5, 3, good.manifest.digest) })).toMatchObject({ kind: 'accepted' })
    expect(judge({ memory: memory(5, 3) })).toMatchObject({ class: 'rollback' })
  })

  it('T11: refuses when the memory is missing, unreadable or contradicts itself, and never takes it for zero', () => {
    expect(judge({ memory: { kind: 'missing' } })).toMatchObject({ class: 'missing-state' })
    expect(judge({ memory: { kind: 'unreadable', reason: 'EIO' } })).toMatchObject({
      class: 'missing-state',
      reason: expect.stringContaining('EIO'),
    })
    for (const bad of [
      memory(0, 0),
      memory(4, 5),
      memory(4, 1, ''),
      memory(Number.NaN, 0),
      memory(4, -1),
      memory(1.5, 0),
    ]) {
      expect(judge({ memory: bad })).toMatchObject({ class: 'missing-state' })
    }
  })

  it('never lets the highest number or the floor fall, and never accepts below the floor', () => {
    const revisions = fc.record({ number: fc.integer({ min: 1, max: 8 }), below: fc.nat(8), salt: fc.nat(1) })
    const cache = new Map<string, SampleRevision>()
    const made = (number: number, floor: number, salt: number) => {
      const key = `${number} ${floor} ${salt}`
      const revision =
        cache.get(key) ??
        sampleRevision({ number, floor, tree: { digest: 'd'.repeat(64), length: 512 + salt } })
      cache.set(key, revision)
      return revision
    }
    fc.assert(
      fc.property(fc.array(revisions, { maxLength: 12 }), sequence => {
        let known: KnownMemory = freshMemory
        for (const { number, below, salt } of sequence) {
          const revision = made(number, Math.max(1, number - below), salt)
          const verdict = judge({ memory: known }, revision)
          const allowed =
            number > known.highest ||
            (number === known.highest && revision.manifest.digest === known.highestDigest) ||
            (number < known.highest && number >= known.floor)
          expect(verdict.kind).toBe(allowed ? 'accepted' : 'refused')
          if (verdict.kind === 'refused') continue
          const { newMemory } = verdict
          expect(newMemory.highest).toBe(Math.max(known.highest, number))
          expect(newMemory.floor).toBeGreaterThanOrEqual(known.floor)
          expect(newMemory.floor).toBeLessThanOrEqual(newMemory.highest)
          expect(number).toBeGreaterThanOrEqual(known.floor)
          known = newMemory
        }
      }),
      { numRuns: 60 },
    )
  })
})

describe('the order', () => {
  it('a good manifest beside an order for something else is refused', () => {
    for (const order of [
      { revision: 6, manifestDigest: good.manifest.digest },
      { revision: 5, manifestDigest: 'e'.repeat(64) },
      { revision: 5, manifestDigest: '' },
      { revision: Number.NaN, manifestDigest: good.manifest.digest },
    ]) {
      expect(judge({ order })).toMatchObject({ class: 'order-mismatch' })
    }
  })
})

describe('the target', () => {
  it('must be the one the manifest names for this host', () => {
    const otherHost = sampleRevision({ targets: [sampleTarget(), sampleTarget({ host: 'anna' })] })
    const [olaf, anna] = otherHost.targets
    const as = (host: string, bytes: Uint8Array) =>
      judge({ assignment: { host, group: '' }, targetBytes: bytes }, otherHost)
    expect(as('anna', anna!.bytes)).toMatchObject({ kind: 'accepted', host: 'anna' })
    expect(as('olaf', anna!.bytes)).toMatchObject({ class: 'target-mismatch' })
    expect(as('anna', olaf!.bytes)).toMatchObject({ class: 'target-mismatch' })
    expect(as('nobody', olaf!.bytes)).toMatchObject({ class: 'target-mismatch' })
    expect(as('', olaf!.bytes)).toMatchObject({ class: 'target-mismatch' })
  })

  it('must say itself whose it is, even when the manifest names it under another name', () => {
    const swapped = signAnyway({ hosts: [{ ...good.manifest.manifest.hosts[0]!, host: 'anna' }] })
    expect(judgeRevision({ ...swapped, assignment: { host: 'anna', group: '' } })).toMatchObject({
      class: 'target-mismatch',
    })
    const strange = toBinary(TargetSchema, { ...sampleTarget(), fleetId: 'f'.repeat(32) })
    const named = signAnyway({
      hosts: [{ ...good.manifest.manifest.hosts[0]!, targetDigest: targetDigest(strange) }],
    })
    expect(judgeRevision({ ...named, targetBytes: strange })).toMatchObject({ class: 'fleet' })
  })

  it('must be made for this system', () => {
    expect(judge({ system: 'aarch64-linux' })).toMatchObject({ class: 'system' })
    expect(judge({ system: '' })).toMatchObject({ class: 'system' })
  })
})

it('a host without a way to install anything is publishable, and every revision is refused on it', () => {
  const external = sampleRevision({ targets: [sampleTarget({ way: { case: undefined } })] })
  expect(judge({}, external)).toMatchObject({ kind: 'refused', class: 'system' })
})
