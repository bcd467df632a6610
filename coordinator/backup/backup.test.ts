import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { backup } from '../api/backup.ts'
import { publishRevision } from '../api/publish-revision.ts'
import { restore } from '../api/restore.ts'
import { writeAuthorities } from '../authority/authority-file.ts'
import { makeAuthority } from '../authority/make-authority.ts'
import { openBlobs } from '../revisions/blobs.ts'
import {
  addMachine,
  type SampleFleet,
  START,
  sampleFleet,
  sampleRevision,
  streamOf,
} from '../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../store/events.ts'
import { newestRevision } from '../store/revisions.ts'
import { openStore } from '../store/store.ts'
import { applyStagedRestore, restoreSteps } from './apply-restore.ts'
import { stageRestore } from './stage-restore.ts'

const log = pino({ level: 'silent' })
const LATER = new Date('2027-04-01T00:00:00Z')
const signal = new AbortController().signal
const folders: string[] = []

let fleet: SampleFleet
let bytes: Buffer
let authorities: Buffer

/** One backup of a running coordinator with a machine, a revision and a real authority; the tests only read it. */
beforeAll(async () => {
  fleet = await sampleFleet()
  const made = await makeAuthority(fleet.clock, 10 * 365 * 86_400_000)
  await mkdir(join(fleet.folder, 'authority'))
  await writeAuthorities(join(fleet.folder, 'authority'), {
    issuing: made.authority.pin,
    authorities: [made],
  })
  authorities = await readFile(join(fleet.folder, 'authority', 'authorities.json'))
  await addMachine(fleet.store, 'a'.repeat(64))
  const publish = publishRevision({ ...fleet, log, onPublished: () => {} })
  await publish(streamOf(sampleRevision(fleet, undefined).messages), { kind: 'local' }, signal)
  const pieces: Uint8Array[] = []
  const take = backup({ ...fleet, stateDir: fleet.folder, log })
  const request = { $typeName: 'muster.v1.BackupRequest' as const }
  for await (const { chunk } of take(request, { kind: 'local' }, signal)) {
    expect(chunk?.length).toBeLessThanOrEqual(64 * 1024)
    // Writes go on while it runs.
    await addMachine(fleet.store, `b${pieces.length.toString(16).padStart(63, '0')}`)
    pieces.push(chunk ?? Buffer.alloc(0))
  }
  bytes = Buffer.concat(pieces)
})
afterAll(() => fleet[Symbol.asyncDispose]())
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

/** Another coordinator's state, with a store, an authority and a blob of its own. */
async function otherState(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'muster-restore-'))
  folders.push(folder)
  const store = await openStore(join(folder, 'store.sqlite'), START)
  await addMachine(store, 'c'.repeat(64))
  await store[Symbol.asyncDispose]()
  await mkdir(join(folder, 'authority'))
  await writeFile(join(folder, 'authority', 'authorities.json'), 'the other authority')
  await mkdir(join(folder, 'blobs'))
  await writeFile(join(folder, 'blobs', 'old'), 'old blob')
  return folder
}

async function* inPieces(whole: Uint8Array, size = 50_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < whole.length; at += size) yield await Promise.resolve(whole.subarray(at, at + size))
}

/** Every file below a folder with its content. */
async function contentOf(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    found[path.slice(folder.length + 1)] = (await readFile(path)).toString('base64')
  }
  return found
}

/** What a coordinator that starts in this folder would run on. */
async function stateOf(folder: string) {
  const store = await openStore(join(folder, 'store.sqlite'), LATER)
  try {
    const machines = await store.db.selectFrom('machines').select('id').orderBy('id').limit(1).execute()
    const revision = await newestRevision(store.db)
    const blobs = await openBlobs(join(folder, 'blobs'))
    const tree = revision && {
      digest: revision.row.tree_digest,
      length: revision.row.tree_length,
    }
    return {
      machine: machines[0]?.id.charAt(0),
      revision: revision?.manifest.number,
      tree: tree && (await blobs.has(tree)),
      authority: (await readFile(join(folder, 'authority', 'authorities.json'))).equals(authorities),
    }
  } finally {
    await store[Symbol.asyncDispose]()
  }
}
const RESTORED = { machine: 'a', revision: 1, tree: true, authority: true }

describe('backup and restore', () => {
  it('brings store, authority and trees to another machine and keeps the state before', async () => {
    const folder = await otherState()
    const store = await openStore(join(folder, 'store.sqlite'), START)
    const restarts: string[] = []
    const answer = await restore({
      stateDir: folder,
      store,
      clock: { now: () => LATER },
      log,
      requestRestart: reason => restarts.push(reason),
    })(
      (async function* () {
        for await (const chunk of inPieces(bytes))
          yield { $typeName: 'muster.v1.RestoreRequest' as const, chunk }
      })(),
      { kind: 'operator', id: 'x', name: 'anna' },
      signal,
    )
    expect(answer.summary).toMatch(/1 revisions/)
    expect(restarts).toEqual(['restore'])
    expect((await listEventRows(store.db, { limit: 1 }))[0]).toMatchObject({
      class: 'restore',
      actor: 'anna',
    })
    await store[Symbol.asyncDispose]()
    const applied = await applyStagedRestore(folder)
    expect(applied?.revisions).toBe(1)
    expect(await stateOf(folder)).toEqual(RESTORED)
    const old = await readdir(applied?.before ?? '')
    expect(old).toEqual(expect.arrayContaining(['authority', 'blobs', 'store.sqlite']))
    expect(await applyStagedRestore(folder)).toBeUndefined()
    expect(await stateOf(folder)).toEqual(RESTORED)
  })

  it('leaves no copy of the store behind in the state folder', async () => {
    expect((await readdir(fleet.folder)).filter(name => name.startsWith('backup-'))).toEqual([])
  })

  it('refuses a backup with any bit flipped or cut anywhere, and touches nothing', async () => {
    const folder = await otherState()
    const before = await contentOf(folder)
    const damaged = fc.oneof(
      fc.nat(bytes.length - 1).map(length => bytes.subarray(0, length)),
      fc.tuple(fc.nat(bytes.length - 1), fc.nat(7)).map(([at, bit]) => {
        const flipped = Buffer.from(bytes)
        flipped[at]! ^= 1 << bit
        return flipped
      }),
      fc.constant(Buffer.concat([bytes, Buffer.from('more')])),
      fc.constant(Buffer.from('another file altogether')),
    )
    await fc.assert(
      fc.asyncProperty(damaged, async content => {
        await expect(stageRestore(folder, inPieces(content), LATER)).rejects.toMatchObject({
          code: status.INVALID_ARGUMENT,
        })
        expect(await applyStagedRestore(folder)).toBeUndefined()
        expect(await contentOf(folder)).toEqual(before)
      }),
      { numRuns: 40 },
    )
  })

  it('ends in the restored state wherever it is killed while it swaps', async () => {
    const template = await otherState()
    await writeFile(join(template, 'store.sqlite-wal'), 'of the old store: would destroy the new one')
    await mkdir(join(template, 'before-restore-2026-01-01'))
    await mkdir(join(template, 'backup-outgoing-dead'))
    await stageRestore(template, inPieces(bytes), LATER)
    let whole = false
    for (let killedAfter = 0; !whole; killedAfter++) {
      const folder = await mkdtemp(join(tmpdir(), 'muster-restore-'))
      folders.push(folder)
      await cp(template, folder, { recursive: true })
      const steps = restoreSteps(folder)
      whole = true
      for (let step = 0; step < killedAfter; step++) await steps.next()
      whole = (await steps.next()).done ?? false
      // The generator is dropped here, as a kill would drop the process.
      await applyStagedRestore(folder)
      expect(await stateOf(folder)).toEqual(RESTORED)
      const names = (await readdir(folder)).filter(name => !name.startsWith('store.sqlite-')).toSorted()
      expect(names).toEqual(['authority', 'before-restore-2027-04-01T00-00-00.000Z', 'blobs', 'store.sqlite'])
      const kept = await readdir(join(folder, names[1] ?? ''))
      expect(kept.toSorted()).toEqual(['authority', 'blobs', 'store.sqlite', 'store.sqlite-wal'])
    }
  })

  it('forgets a restore that was not received whole, and makes one backup at a time', async () => {
    const folder = await otherState()
    await mkdir(join(folder, 'restore-incoming', 'authority'), { recursive: true })
    await writeFile(join(folder, 'restore-incoming', 'store.sqlite'), 'half')
    expect(await applyStagedRestore(folder)).toBeUndefined()
    expect(await readdir(folder)).not.toContain('restore-incoming')
    const take = backup({ ...fleet, stateDir: fleet.folder, log })
    const request = { $typeName: 'muster.v1.BackupRequest' as const }
    const first = take(request, { kind: 'local' }, signal)
    await first.next()
    await expect(take(request, { kind: 'local' }, signal).next()).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    })
    await first.return(undefined)
    expect((await readdir(fleet.folder)).filter(name => name.startsWith('backup-'))).toEqual([])
  })
})
