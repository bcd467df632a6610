import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import { makeNextTrustSet } from '../../shared/trust/make-trust-set.ts'
import type { Assignment } from '../enrolment/assign.ts'
import { loadFleetTargets } from '../revisions/fleet-targets.ts'
import {
  KEY,
  type SampleFleet,
  type SampleRevision,
  sampleFleet,
  sampleRevision,
  streamOf,
  targetOf,
} from '../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../store/events.ts'
import { newestRevision, treeDigests } from '../store/revisions.ts'
import { newestTrust } from '../store/trust-sets.ts'
import { agentDownloadTree } from './agent-download-tree.ts'
import { agentGetRevision } from './agent-get-revision.ts'
import type { Caller } from './caller.ts'
import { downloadRevisionTree } from './download-revision-tree.ts'
import { getFleetRevision } from './get-fleet-revision.ts'
import { listRevisions } from './list-revisions.ts'
import { publishRevision } from './publish-revision.ts'

const ANNA: Caller = { kind: 'operator', id: 'a'.repeat(64), name: 'anna' }
const BEN: Caller = { kind: 'operator', id: 'b'.repeat(64), name: 'ben' }

let fleet: SampleFleet
let published: { number: number; trustChanged: boolean }[]
let committed: number[]
beforeEach(async () => {
  fleet = await sampleFleet()
  published = []
  committed = []
})
afterEach(() => fleet[Symbol.asyncDispose]())

function publish({ messages }: SampleRevision, caller: Caller = ANNA) {
  const handler = publishRevision({
    ...fleet,
    log: pino({ level: 'silent' }),
    onCommitted: async ({ number }) => {
      committed.push(number)
    },
    onPublished: ({ revision, trustChanged }) => published.push({ number: revision.number, trustChanged }),
  })
  return handler(streamOf(messages), caller, new AbortController().signal)
}

async function rowsAndBlobs() {
  const { db } = fleet.store
  const count = async (table: 'revisions' | 'targets' | 'revision_targets') =>
    (await db.selectFrom(table).selectAll().execute()).length
  const folders = await readdir(join(fleet.folder, 'blobs', 'sha256'))
  return [
    await count('revisions'),
    await count('targets'),
    await count('revision_targets'),
    folders.length,
    (await readdir(join(fleet.folder, 'blobs', 'incoming'))).length,
  ]
}

async function collect(chunks: AsyncIterable<{ chunk?: Uint8Array }>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const { chunk } of chunks) all.push(chunk ?? Buffer.alloc(0))
  return Buffer.concat(all)
}

describe('publishing', () => {
  it('takes a signed revision, tells who must know, and gives back what was published', async () => {
    const first = sampleRevision(fleet, undefined)
    expect(await publish(first)).toEqual({
      number: 1n,
      manifestDigest: first.manifest.digest,
      unchanged: false,
    })
    expect(published).toEqual([{ number: 1, trustChanged: false }])
    expect(committed).toEqual([1])
    expect([...fleet.fleetTargets.current().hosts.keys()].toSorted()).toEqual(['nas', 'olaf'])
    const got = await getFleetRevision(fleet)({ $typeName: 'muster.v1.GetFleetRevisionRequest', number: 0n })
    expect(got.envelope?.payload).toEqual(Buffer.from(first.payload))
    expect(got.targets).toHaveLength(2)
    expect(got.revision).toMatchObject({ publishedBy: 'anna', signers: [KEY.keyId], hosts: 2, groups: 0 })
    const tree = downloadRevisionTree(fleet)({
      $typeName: 'muster.v1.DownloadRevisionTreeRequest',
      number: 1n,
    })
    expect((await collect(tree)).equals(first.tree)).toBe(true)
    const { revisions } = await listRevisions(fleet)({
      $typeName: 'muster.v1.ListRevisionsRequest',
      limit: 0,
    })
    expect(revisions?.map(({ number }) => number)).toEqual([1n])
    expect(await listEventRows(fleet.store.db, { limit: 10 })).toMatchObject([
      { class: 'published', actor: 'anna' },
    ])
  })

  it('gives a machine its own target and a tree from any offset, and nobody else’s', async () => {
    const first = sampleRevision(fleet, undefined)
    await publish(first)
    const deps = {
      ...fleet,
      directory: {
        assignment: (machine: string): Assignment =>
          machine === 'stranger'
            ? { kind: 'none', reason: 'no host of the fleet file is this machine' }
            : { kind: 'host', host: machine, group: '', boundBy: 'hardware' },
      },
    }
    const got = await agentGetRevision(deps)(
      { $typeName: 'muster.v1.GetRevisionRequest', number: 1n },
      'olaf',
    )
    const own = first.targets.find(({ target }) => target.host === 'olaf')
    expect(Buffer.from(got.target ?? []).equals(Buffer.from(own?.bytes ?? []))).toBe(true)
    const ask = (machine: string, number: bigint) =>
      agentGetRevision(deps)({ $typeName: 'muster.v1.GetRevisionRequest', number }, machine)
    await expect(ask('stranger', 1n)).rejects.toMatchObject({ code: status.NOT_FOUND })
    await expect(ask('unlisted', 1n)).rejects.toMatchObject({ code: status.NOT_FOUND })
    await expect(ask('olaf', 7n)).rejects.toMatchObject({ code: status.NOT_FOUND })
    const download = agentDownloadTree(deps)
    const at = (offset: bigint, machine = 'olaf') =>
      download({ $typeName: 'muster.v1.DownloadTreeRequest', number: 1n, offset }, machine)
    expect((await collect(at(70_000n))).equals(first.tree.subarray(70_000))).toBe(true)
    expect((await collect(at(150_000n))).length).toBe(0)
    await expect(collect(at(150_001n))).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    await expect(collect(at(0n, 'unlisted'))).rejects.toMatchObject({ code: status.NOT_FOUND })
    const open = [at(0n), at(0n)]
    for (const one of open) await one.next()
    await expect(at(0n).next()).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED })
    for (const one of open) await one.return(undefined)
    expect((await collect(at(0n))).length).toBe(150_000)
  })

  it('lets exactly one of two operators win who publish at once, and tells the other who did', async () => {
    const first = sampleRevision(fleet, undefined)
    await publish(first)
    const settled = await Promise.allSettled([
      publish(sampleRevision(fleet, first), ANNA),
      publish(sampleRevision(fleet, first), BEN),
    ])
    const won = settled.filter(one => one.status === 'fulfilled')
    const lost = settled.filter(one => one.status === 'rejected')
    expect([won.length, lost.length]).toEqual([1, 1])
    const winner = (await newestRevision(fleet.store.db))?.row.published_by
    expect(lost[0]?.reason).toMatchObject({
      code: status.ABORTED,
      message: expect.stringContaining(`revision 2 is by ${winner}`),
    })
    // The loser's tree is an orphan, which the sweep at the next start removes.
    expect(await fleet.blobs.sweep(await treeDigests(fleet.store.db))).toBe(1)
  })

  it('answers unchanged for the same tree and targets, and for a publication sent twice, and writes nothing', async () => {
    const first = sampleRevision(fleet, undefined)
    await publish(first)
    const before = await rowsAndBlobs()
    expect(await publish(first)).toMatchObject({ number: 1n, unchanged: true })
    const same = sampleRevision(fleet, first, { tree_: first.tree })
    expect(await publish(same)).toMatchObject({ number: 1n, unchanged: true })
    expect(await rowsAndBlobs()).toEqual(before)
  })

  it('renews the newest revision without its tree, and nothing else', async () => {
    const first = sampleRevision(fleet, undefined)
    await publish(first)
    const renewed = sampleRevision(fleet, first, { tree_: first.tree, renew: true })
    expect(await publish(renewed)).toMatchObject({ number: 2n, unchanged: false })
    expect((await rowsAndBlobs()).slice(0, 4)).toEqual([2, 2, 4, 1])
    const other = sampleRevision(fleet, renewed, { renew: true })
    await expect(publish(other)).rejects.toMatchObject({ code: status.FAILED_PRECONDITION })
    await fleet.blobs.sweep(new Set())
    await expect(publish(sampleRevision(fleet, renewed, { tree_: first.tree, renew: true }))).rejects.toThrow(
      'has lost the tree',
    )
  })

  it('T5: refuses forgeries, other fleets, falling floors, wrong targets and bad trees, and keeps nothing of them', async () => {
    const first = sampleRevision(fleet, undefined)
    await publish(first)
    const raised = sampleRevision(fleet, first, { floor: 2 })
    await publish(raised)
    const before = await rowsAndBlobs()
    const stranger = generateSigningKey()
    const cases: [SampleRevision, RegExp, status][] = [
      [
        sampleRevision(fleet, raised, { signers: [stranger] }),
        /signatures: 0 good/,
        status.PERMISSION_DENIED,
      ],
      [
        sampleRevision({ ...fleet, fleetId: 'f'.repeat(32) }, raised, { floor: 2 }),
        /fleet/,
        status.PERMISSION_DENIED,
      ],
      [sampleRevision(fleet, raised, { floor: 1 }), /a floor never falls/, status.FAILED_PRECONDITION],
      [sampleRevision(fleet, first), /published meanwhile/, status.ABORTED],
      [sampleRevision(fleet, raised, { floor: 2, number: 9 }), /must be 3/, status.FAILED_PRECONDITION],
      [
        sampleRevision(fleet, raised, {
          floor: 2,
          sent: ({ targets }) => targets.slice(1).map(({ bytes }) => bytes),
        }),
        /names 2 targets, 1 were sent/,
        status.INVALID_ARGUMENT,
      ],
    ]
    for (const [revision, reason, code] of cases) {
      await expect(publish(revision)).rejects.toMatchObject({ code, message: expect.stringMatching(reason) })
    }
    const good = sampleRevision(fleet, raised, { floor: 2 })
    const cut = { ...good, messages: good.messages.slice(0, -1) }
    await expect(publish(cut)).rejects.toThrow(/tree: ends after/)
    const [header, chunk] = good.messages
    await expect(publish({ ...good, messages: [chunk!] })).rejects.toThrow(/first message/)
    await expect(publish({ ...good, messages: [header!, header!] })).rejects.toThrow(/only chunks/)
    expect(await rowsAndBlobs()).toEqual(before)
    const events = await listEventRows(fleet.store.db, { limit: 20 })
    expect(events.filter(event => event.class === 'publish-refused').length).toBe(4)
    expect(published.length).toBe(2)
  })

  it('takes in the trust set that travels in a manifest signed by the old keys', async () => {
    const next = generateSigningKey()
    const trust = makeNextTrustSet({
      current: fleet.trust.trust,
      change: { keys: [{ key: next, comment: 'new' }] },
      created: fleet.clock.now(),
      signers: [KEY],
    })
    await publish(sampleRevision(fleet, undefined, { trustSet: trust.envelope }))
    expect((await newestTrust(fleet.store.db))?.number).toBe(2)
    expect(published).toEqual([{ number: 1, trustChanged: true }])
    expect(committed).toEqual([]) // told only once the trust set was
  })

  it('N22: a reader keeps one whole snapshot, and a value that two hosts claim leads to neither', async () => {
    const targets = [
      targetOf(fleet.fleetId, 'olaf', { serial: 'S1', mac: '02:00:00:00:00:01' }),
      targetOf(fleet.fleetId, 'nas', { serial: 'S1', diskSerial: 'D9' }),
    ]
    const first = sampleRevision(fleet, undefined, { targets })
    const before = fleet.fleetTargets.current()
    await publish(first)
    expect(before.revision).toBe(0)
    const after = fleet.fleetTargets.current()
    expect(after).toMatchObject({ revision: 1, manifestDigest: first.manifest.digest })
    expect([...after.byMac, ...after.byDisk]).toEqual([
      ['02:00:00:00:00:01', 'olaf'],
      ['D9', 'nas'],
    ])
    expect(after.bySerial.size).toBe(0)
    expect(after.ambiguous).toEqual(['serial S1 is claimed by nas, olaf'])
    expect(await loadFleetTargets(fleet.store.db)).toEqual(after)
  })
})
