import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import {
  sampleKey,
  sampleNow,
  sampleRevision,
  sampleTrust,
} from '../../shared/revision/testing/sample-fleet.ts'
import { makeNextTrustSet } from '../../shared/trust/make-trust-set.ts'
import { judgeNewest, type ManifestDeps, ManifestKeeper } from './manifest-keeper.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-manifest-'))
})
afterEach(async () => await rm(folder, { recursive: true }))

const signal = new AbortController().signal
const open = async (change: Partial<ManifestDeps> = {}) =>
  await ManifestKeeper.open({
    folder,
    trust: () => sampleTrust.trust,
    accepted: () => ({ highest: 0n, highestDigest: '' }),
    getRevision: async () => {
      throw new Error('nobody is there')
    },
    clock: { now: () => sampleNow },
    ...change,
  })

describe('the newest manifest that a node knows', () => {
  it('never goes back, whatever is offered and in whatever order, over restarts too', async () => {
    const revisions = [1, 2, 3].flatMap(number => [
      { number, envelope: sampleRevision({ number }).envelope },
      { number, envelope: sampleRevision({ number, tree: { digest: 'e'.repeat(64), length: 5 } }).envelope },
    ])
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...revisions, undefined), { maxLength: 8 }), async offers => {
        await rm(join(folder, 'manifest'), { force: true })
        let keeper = await open()
        let highest = 0
        let digest = ''
        for (const offer of offers) {
          if (!offer) {
            keeper = await open()
          } else {
            await keeper.offer(offer.envelope)
          }
          const held = keeper.held
          expect(held?.number ?? 0).toBeGreaterThanOrEqual(highest)
          if (held?.number === highest && highest > 0) expect(held.digest).toBe(digest)
          highest = held?.number ?? 0
          digest = held?.digest ?? ''
        }
        expect(highest).toBe(Math.max(0, ...offers.map(offer => offer?.number ?? 0)))
      }),
      { numRuns: 40 },
    )
  })

  it('is none that a stranger signed, none of the future, and none behind what was accepted here', async () => {
    const accepted = sampleRevision({ number: 4 })
    const keeper = await open({ accepted: () => ({ highest: 4n, highestDigest: accepted.manifest.digest }) })
    expect(await keeper.offer(sampleRevision({}, generateSigningKey()).envelope)).toContain('signature')
    expect(await keeper.offer(undefined)).toContain('missing')
    expect(await keeper.offer(sampleRevision({ number: 3 }).envelope)).toContain('revision 4 is known here')
    const other = sampleRevision({ number: 4, tree: { digest: 'e'.repeat(64), length: 5 } })
    expect(await keeper.offer(other.envelope)).toContain('another one is known')
    const late = new Date(sampleNow.getTime() + 3_600_000)
    const future = sampleRevision({ created: late, expires: new Date(late.getTime() + 1_000) })
    expect(await keeper.offer(future.envelope)).toContain('in the future')
    expect(keeper.held).toBeUndefined()
    expect(await keeper.offer(accepted.envelope)).toBeUndefined()
    expect(keeper.held?.number).toBe(4)
  })

  it('counts although it has expired: that stops new installations, not what a node is', async () => {
    const created = new Date(sampleNow.getTime() - 10 * 86_400_000)
    const old = sampleRevision({ created, expires: new Date(created.getTime() + 86_400_000) })
    const keeper = await open()
    expect(await keeper.offer(old.envelope)).toBeUndefined()
    expect(keeper.held?.digest).toBe(old.manifest.digest)
  })

  it('is verified again when the trust set changes', async () => {
    const next = generateSigningKey()
    const changed = makeNextTrustSet({
      current: sampleTrust.trust,
      change: { keys: [{ key: next, comment: 'new' }] },
      created: sampleNow,
      signers: [sampleKey],
    })
    let { trust } = sampleTrust
    const keeper = await open({ trust: () => trust })
    await keeper.offer(sampleRevision().envelope)
    expect(keeper.held?.number).toBe(5)
    trust = changed.trust
    expect(keeper.held).toBeUndefined()
  })

  it('is fetched where it was accepted and is not at hand, and nothing is judged by an older one', async () => {
    const accepted = sampleRevision({ number: 6 })
    let there: Envelope | undefined
    const asked: bigint[] = []
    const keeper = await open({
      accepted: () => ({ highest: 6n, highestDigest: accepted.manifest.digest }),
      getRevision: async number => {
        asked.push(number)
        if (!there) throw new Error('not now')
        return { envelope: there }
      },
    })
    expect(await keeper.newest(signal)).toMatchObject({
      kind: 'unknown',
      reason: expect.stringContaining('not now'),
    })
    there = sampleRevision({ number: 5 }).envelope
    expect(await keeper.newest(signal)).toMatchObject({ kind: 'unknown' })
    there = accepted.envelope
    expect(await keeper.newest(signal)).toMatchObject({ kind: 'known', manifest: { number: 6 } })
    await keeper.newest(signal)
    expect(asked).toEqual([6n, 6n, 6n])
  })

  it('that is damaged on disk is as good as none, and does not let an older one in', async () => {
    const accepted = sampleRevision({ number: 6 })
    const deps = { accepted: () => ({ highest: 6n, highestDigest: accepted.manifest.digest }) }
    await (await open(deps)).offer(accepted.envelope)
    await writeFile(join(folder, 'manifest'), 'damaged')
    const keeper = await open(deps)
    expect(keeper.held).toBeUndefined()
    expect(await keeper.offer(sampleRevision({ number: 5 }).envelope)).toContain('revision 6 is known here')
  })

  it('finds a certain revision only under its digest and not below the floor', async () => {
    const [older, below] = [sampleRevision({ number: 4 }), sampleRevision({ number: 2, floor: 1 })]
    const all = [older, below]
    const keeper = await open({
      getRevision: async number => {
        const found = all.find(({ manifest }) => BigInt(manifest.number) === number)
        return { envelope: found?.envelope }
      },
    })
    await keeper.offer(sampleRevision().envelope)
    expect(await keeper.find(4n, older.manifest.digest, signal)).toMatchObject({ kind: 'known' })
    expect(await keeper.find(4n, 'f'.repeat(64), signal)).toMatchObject({ kind: 'unknown' })
    expect(await keeper.find(2n, below.manifest.digest, signal)).toMatchObject({
      reason: expect.stringContaining('the floor'),
    })
    expect(keeper.held?.number).toBe(5)
  })
})

it('judges by every number that is remembered', () => {
  const known = fc.record({ number: fc.integer({ min: 1, max: 5 }), digest: fc.constantFrom('a', 'b') })
  fc.assert(
    fc.property(known, fc.array(known, { maxLength: 3 }), (candidate, remembered) => {
      const why = judgeNewest({ ...candidate, created: new Date(0) }, remembered, 0)
      const fits = remembered.every(
        ({ number, digest }) =>
          number < candidate.number || (number === candidate.number && digest === candidate.digest),
      )
      expect(why === undefined).toBe(fits)
    }),
  )
})
