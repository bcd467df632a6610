import { open, readdir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { makePrivateDirectory, syncDirectory, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { readAuthorities } from '../authority/authority-file.ts'
import { openBlobs } from '../revisions/blobs.ts'
import { RESTORED_KEY, restoredMark } from '../rollouts/restore-watch.ts'
import { MIGRATIONS } from '../store/migrate.ts'
import { openSqlite, type SqliteDatabase } from '../store/sqlite.ts'
import { type AboutBackup, readArchive } from './archive.ts'
import { READY_MARKER, stateLayout } from './layout.ts'

const MAX_FILES = 200_000
const MAX_STORE_BYTES = 64 * 1024 ** 3
const MAX_AUTHORITY_BYTES = 256 * 1024
const MAX_BLOB_BYTES = 256 * 1024 * 1024

export const readySchema = z.strictObject({
  /** When the backup was made. */
  made: z.iso.datetime(),
  /** When it was received; names the folder that keeps the old state. */
  received: z.iso.datetime(),
  machines: z.int(),
  revisions: z.int(),
})
export type ReadyRestore = z.output<typeof readySchema>

/**
 * Receives a backup beside the running state and checks all of it. Only then the marker is written that lets the next
 * start swap it in; whatever is wrong leaves the state as it was and nothing behind.
 */
export async function stageRestore(
  stateDir: string,
  chunks: AsyncIterable<Uint8Array>,
  now: Date,
): Promise<ReadyRestore> {
  const { incoming } = stateLayout(stateDir)
  await rm(incoming, { recursive: true, force: true })
  try {
    for (const folder of ['authority', join('blobs', 'sha256')]) {
      await makePrivateDirectory(join(incoming, folder))
    }
    const about = await readArchive(chunks, MAX_FILES, (path, size, content) =>
      takeFile(incoming, path, size, content),
    )
    const counts = await checkStaged(incoming, about)
    await syncTree(incoming)
    const ready = { made: about.at, received: now.toISOString(), ...counts }
    await writeFileDurably(join(incoming, READY_MARKER), JSON.stringify(ready))
    await syncDirectory(stateDir)
    return ready
  } catch (error) {
    await rm(incoming, { recursive: true, force: true })
    throw error
  }
}

/** The only places a backup may write to, and how much. */
function boundOf(path: string): number | undefined {
  if (path === 'store.sqlite') return MAX_STORE_BYTES
  if (/^authority\/[a-z0-9][a-z0-9.-]{0,63}$/.test(path)) return MAX_AUTHORITY_BYTES
  const blob = /^blobs\/sha256\/([0-9a-f]{2})\/([0-9a-f]{64})$/.exec(path)
  return blob?.[2]?.startsWith(blob[1] ?? '-') ? MAX_BLOB_BYTES : undefined
}

async function takeFile(
  incoming: string,
  path: string,
  size: number,
  content: AsyncIterable<Buffer>,
): Promise<void> {
  const bound = boundOf(path)
  if (bound === undefined)
    throw invalid(`backup: ${JSON.stringify(path)} has no place in a coordinator's state`)
  if (size > bound) throw invalid(`backup: ${path} has ${size} bytes, at most ${bound} are allowed`)
  const target = join(incoming, path)
  await makePrivateDirectory(dirname(target))
  // "wx": a path that comes twice is refused.
  const file = await open(target, 'wx', 0o600)
  try {
    for await (const piece of content) await file.writeFile(piece)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Whether what was received is a whole state that this program can run on. */
async function checkStaged(
  incoming: string,
  about: AboutBackup,
): Promise<{ readonly machines: number; readonly revisions: number }> {
  if (about.schema > MIGRATIONS.length) {
    throw invalid(
      `backup: made by version ${about.version} with schema ${about.schema}, this program knows up to ${MIGRATIONS.length}; run the newer one`,
    )
  }
  const store = join(incoming, 'store.sqlite')
  if (!(await stat(store).catch(() => undefined))) throw invalid('backup: has no store')
  const authorities = await readAuthorities(join(incoming, 'authority')).catch((error: unknown) => {
    throw invalid(`backup: its authority is not usable: ${reasonOf(error)}`)
  })
  if (!authorities) throw invalid('backup: has no authority')
  const found = readStore(store, about.at)
  for (const suffix of ['-wal', '-shm']) await rm(store + suffix, { force: true })
  const blobs = await openBlobs(join(incoming, 'blobs'))
  for (const blob of found.trees) {
    if (!(await blobs.has(blob))) throw invalid(`backup: lacks the tree ${blob.digest} of a revision`)
    for await (const _ of blobs.read(blob)) {
      // Reading is the check: a blob that is not what its name says throws.
    }
  }
  return { machines: found.machines, revisions: found.revisions }
}

const countSchema = z.object({ n: z.number() })
const treeSchema = z.object({ digest: z.string(), length: z.number() })

/** Checks the store, and has it say of itself that it is a copy: what it grants once it is in place an operator decides. */
function readStore(path: string, made: string) {
  let sqlite: SqliteDatabase | undefined
  try {
    sqlite = openSqlite(path)
    const problems = sqlite.pragma('integrity_check(5)', { simple: true })
    if (problems !== 'ok') throw new Error(String(problems))
    sqlite.pragma('synchronous = FULL')
    sqlite
      .prepare(
        'insert into meta (key, value) values (?, ?) on conflict (key) do update set value = excluded.value',
      )
      .run(RESTORED_KEY, restoredMark(made))
    const count = (sql: string) => countSchema.parse(sqlite?.prepare(sql).get()).n
    const schema = count('select max(number) as n from schema_migrations')
    if (schema > MIGRATIONS.length) {
      throw new Error(`its schema ${schema} is newer than ${MIGRATIONS.length}, which this program knows`)
    }
    return {
      machines: count('select count(*) as n from machines'),
      revisions: count('select count(*) as n from revisions'),
      trees: z
        .array(treeSchema)
        .parse(
          sqlite.prepare('select distinct tree_digest as digest, tree_length as length from revisions').all(),
        ),
    }
  } catch (error) {
    throw invalid(`backup: its store is not usable: ${reasonOf(error)}`)
  } finally {
    sqlite?.close()
  }
}

/** Makes all names below a folder durable; the files themselves were synced when they were written. */
async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncTree(join(folder, entry.name))
  }
  await syncDirectory(folder)
}
