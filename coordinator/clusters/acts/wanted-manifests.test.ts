import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { signEnvelope } from '../../../shared/envelope/envelope.ts'
import { MANIFEST_TYPE } from '../../../shared/envelope/payload-types.ts'
import { sha256Hex } from '../../../shared/ids.ts'
import { packTree } from '../../../shared/tree/pack-tree.ts'
import { NO_TARGETS } from '../../revisions/fleet-targets.ts'
import {
  KEY,
  type SampleFleet,
  sampleFleet,
  sampleRevision,
  streamOf,
} from '../../revisions/testing/sample-fleet.ts'
import { insertRevision } from '../../store/revisions.ts'
import { NOW } from '../testing/sample-snapshot.ts'
import { deleteOldActs, insertAct } from './act-store.ts'
import type { ClusterAct } from './cluster-act.ts'
import { manifestsRequest } from './plan-acts.ts'
import { openAct } from './testing/sample-act.ts'
import { ManifestBook } from './wanted-manifests.ts'

let fleet: SampleFleet
let book: ManifestBook
beforeEach(async () => {
  fleet = await sampleFleet()
  const dir = join(fleet.folder, 'directory')
  await mkdir(join(dir, 'manifests/home'), { recursive: true })
  await writeFile(join(dir, 'manifests/home/web.yaml'), 'kind: ConfigMap\n')
  const packed = await packTree(dir, join(fleet.folder, 'tree'))
  if (packed.kind === 'refused') throw new Error(packed.reason)
  const tree = await readFile(join(fleet.folder, 'tree'))
  const { manifest, payload } = sampleRevision(fleet, undefined, { tree_: tree })
  await fleet.blobs.put({ digest: sha256Hex(tree), length: tree.length }, streamOf([tree]))
  const published = { at: fleet.clock.now(), by: 'anna', signers: [] }
  await fleet.store.transact(tx =>
    insertRevision(tx, signEnvelope(payload, MANIFEST_TYPE, [KEY]), manifest, published),
  )
  const fleetTargets = { current: () => ({ ...NO_TARGETS, revision: 1, manifestDigest: manifest.digest }) }
  book = new ManifestBook({ db: fleet.store.db, blobs: fleet.blobs, fleetTargets })
})
afterEach(() => fleet[Symbol.asyncDispose]())

const write = (change: Partial<ClusterAct>) =>
  fleet.store.transact(tx => insertAct(tx, openAct({ host: '', machine: '', done: true, ...change })))

async function brought(askedMs: number): Promise<void> {
  const wanted = await book.of('home')
  if (!wanted) throw new Error('nothing was published')
  await write({
    id: `brought-${askedMs}`,
    act: 'manifests',
    parameter: wanted.digest,
    askedMs,
    endedMs: askedMs + 1,
    request: manifestsRequest('home', wanted),
    operation: `brought-${askedMs}`,
  })
}

const restored = (id: string, endedMs: number, change: Partial<ClusterAct> = {}) =>
  write({
    id,
    act: 'restore',
    request: `operator ${id}`,
    operation: id,
    askedMs: endedMs - 1,
    endedMs,
    ...change,
  })

describe('manifests that a cluster has', () => {
  it('are brought once, and once more after each restore of its datastore', async () => {
    expect(await book.of('home')).toMatchObject({ isDue: true, restoredBy: '' })
    await brought(NOW)
    expect(await book.of('home')).toMatchObject({ isDue: false })
    await restored('back', NOW + 10)
    expect(await book.of('home')).toMatchObject({ isDue: true, restoredBy: 'back', appliedRevision: 0 })
    await brought(NOW + 20)
    expect(await book.of('home')).toMatchObject({ isDue: false })
    await restored('back-again', NOW + 30)
    expect(await book.of('home')).toMatchObject({ isDue: true, restoredBy: 'back-again' })
  })

  it('may be gone after a restore that failed on its way, and are there after one that was never begun', async () => {
    await brought(NOW)
    await restored('refused', NOW + 10, { done: false, class: 'precondition' })
    await restored('open', NOW + 20, { endedMs: undefined })
    expect(await book.of('home')).toMatchObject({ isDue: false })
    await restored('failed', NOW + 30, { done: false, class: 'timed-out' })
    expect(await book.of('home')).toMatchObject({ isDue: true, restoredBy: 'failed' })
  })

  it('are not brought anew for a restore from before them, which is remembered for good', async () => {
    await restored('back', NOW)
    await brought(NOW + 10)
    await fleet.store.transact(tx => deleteOldActs(tx, { beforeMs: NOW + 5, limit: 10 }))
    expect(await book.of('home')).toMatchObject({ isDue: false, restoredBy: 'back' })
  })
})
