import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory } from '../../shared/durable-file.ts'
import { VERSION } from '../../shared/version.ts'
import type { Blobs } from '../revisions/blobs.ts'
import { MIGRATIONS } from '../store/migrate.ts'
import { trees } from '../store/revisions.ts'
import type { Store } from '../store/store.ts'
import { type ArchiveFile, writeArchive } from './archive.ts'
import { OUTGOING, stateLayout } from './layout.ts'

const CHUNK_BYTES = 64 * 1024

export interface BackupSource {
  readonly stateDir: string
  readonly store: Store
  readonly blobs: Blobs
}

/**
 * A consistent copy of store, authority and blobs while the coordinator runs. The store is copied first; blobs are never
 * removed while it runs, so all that the copy names are there. It holds the authority's key: whoever has it can pose as
 * this coordinator.
 */
export async function* makeBackup(source: BackupSource, now: Date): AsyncGenerator<Uint8Array> {
  const outgoing = join(source.stateDir, `${OUTGOING}${randomBytes(6).toString('hex')}`)
  try {
    await makePrivateDirectory(outgoing)
    const copy = join(outgoing, 'store.sqlite')
    await source.store.copyTo(copy)
    const about = { version: VERSION, schema: MIGRATIONS.length, at: now.toISOString() }
    yield* writeArchive(about, filesOf(source, copy))
  } finally {
    await rm(outgoing, { recursive: true, force: true })
  }
}

async function* filesOf({ stateDir, store, blobs }: BackupSource, copy: string): AsyncGenerator<ArchiveFile> {
  const { size } = await stat(copy)
  yield { path: 'store.sqlite', size, content: createReadStream(copy, { highWaterMark: CHUNK_BYTES }) }
  const { authority } = stateLayout(stateDir)
  for (const name of (await readdir(authority)).toSorted()) {
    if (name.startsWith('.')) continue // a write that is not finished
    const bytes = await readFile(join(authority, name))
    yield { path: `authority/${name}`, size: bytes.length, content: once(bytes) }
  }
  for (const blob of await trees(store.db)) {
    const path = `blobs/sha256/${blob.digest.slice(0, 2)}/${blob.digest}`
    yield { path, size: blob.length, content: blobs.read(blob) }
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes)
}
