import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { signEnvelope } from '../envelope/envelope.ts'
import { generateSigningKey } from '../envelope/keys.ts'
import { MANIFEST_TYPE } from '../envelope/payload-types.ts'
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
  sampleFleetId,
  sampleGroupTarget,
  sampleHardware,
  sampleKey,
  sampleNow,
  sampleRecoveryKey,
  sampleRevision,
  sampleRule,
  sampleTarget,
  sampleTrust,
} from './sample-fleet.ts'

const good = sampleRevision()
const minutes = (count: number) => new Date(sampleNow.getTime() + count * 60_000)

function inputFor(revision: SampleRevision, change: Partial<RevisionInput> = {}): RevisionInput {
  return {
    envelope: revision.envelope,
    targetBytes: revision.targets[0]!.bytes,
    trust: sampleTrust.trust,
    now: sampleNow,
    memory: freshMemory,
    order: { revision: revision.manifest.number, manifestDigest: revision.manifest.digest },
    hardware: sampleHardware,
    assignment: { host: 'olaf', group: '' },
    system: 'x86_64-linux',
    ...change,
  }
}
const judge = (change: Partial<RevisionInput> = {}, revision = good) =>
  judgeRevision(inputFor(revision, change))

/** A manifest that the builder would not make, signed all the same. */
function signAnyway(change: Partial<Manifest>): RevisionInput {
  return signPayload(
    toBinary(ManifestSchema, create(ManifestSchema, { ...good.manifest.manifest, ...change })),
  )
}
function signPayload(payload: Uint8Array): RevisionInput {
  const order = { revision: good.manifest.number, manifestDigest: manifestDigest(payload) }
  return inputFor(good, { envelope: signEnvelope(payload, MANIFEST_TYPE, [sampleKey]), order })
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
    const input = signPayload(unknown)
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
    expect(judgeRevision(signPayload(toBinary(ManifestSchema, manifest)))).toMatchObject({
      class: 'malformed',
    })
  })

  it('is refused when it is cut or no manifest at all', () => {
    for (let length = 1; length < good.payload.length; length += 7) {
      expect(judgeRevision(signPayload(good.payload.subarray(0, length))).kind).toBe('refused')
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), bytes => {
        expect(judgeRevision(signPayload(bytes)).kind).toBe('refused')
      }),
    )
  })

  it('is of this fleet in the sample, so that the refusals above have their own causes', () => {
    expect(good.manifest.manifest.fleetId).toBe(sampleFleetId)
    expect(judgeRevision(signAnyway({}))).toMatchObject({ kind: 'accepted' })
  })
})
