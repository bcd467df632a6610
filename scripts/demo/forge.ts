import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { openSqlite, type SqliteDatabase } from '../../coordinator/store/sqlite.ts'
import { signEnvelope } from '../../shared/envelope/envelope.ts'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import { MANIFEST_TYPE } from '../../shared/envelope/payload-types.ts'
import { EnvelopeSchema } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { ManifestSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { readManifest } from '../../shared/revision/read-manifest.ts'
import { packTree } from '../../shared/tree/pack-tree.ts'
import { DemoError } from './demo-error.ts'

interface RevisionRow {
  readonly number: number
  readonly manifest_digest: string
  readonly envelope: Buffer
}

/**
 * What somebody does who has taken the coordinator over: writes the next revision into its store, with a tree of his own,
 * signed with a key of his own, for the operator's key was never there. Says its number.
 */
export async function forgeRevision(state: string, tree: string, scratch: string): Promise<number> {
  const packed = join(scratch, 'forged-tree')
  const made = await packTree(tree, packed)
  if (made.kind === 'refused') throw new DemoError(made.reason)
  const database = openSqlite(join(state, 'store.sqlite'))
  try {
    const newest = newestRow(database)
    const before = readManifest(fromBinary(EnvelopeSchema, newest.envelope).payload)
    if (before.kind === 'refused') throw new DemoError(before.reason)
    const number = newest.number + 1
    const manifest = {
      ...before.manifest.manifest,
      number: BigInt(number),
      predecessor: newest.manifest_digest,
      treeDigest: made.digest,
      treeLength: BigInt(made.length),
    }
    const payload = toBinary(ManifestSchema, manifest)
    const read = readManifest(payload)
    if (read.kind === 'refused') throw new DemoError(read.reason)
    const envelope = signEnvelope(payload, MANIFEST_TYPE, [generateSigningKey()])
    await putBlob(state, made.digest, packed)
    database
      .prepare(
        `insert into revisions select ?, ?, ?, ?, ?, created, expires, published, published_by, signers
         from revisions where number = ?`,
      )
      .run(
        number,
        read.manifest.digest,
        toBinary(EnvelopeSchema, envelope),
        made.digest,
        made.length,
        newest.number,
      )
    database
      .prepare(
        'insert into revision_targets select ?, host, group_name, digest from revision_targets where revision = ?',
      )
      .run(number, newest.number)
    return number
  } finally {
    database.close()
  }
}

/** Takes the forgery out again. */
export function removeRevision(state: string, number: number): void {
  const database = openSqlite(join(state, 'store.sqlite'))
  try {
    database.prepare('delete from revision_targets where revision = ?').run(number)
    database.prepare('delete from revisions where number = ?').run(number)
  } finally {
    database.close()
  }
}

function newestRow(database: SqliteDatabase): RevisionRow {
  const row = database
    .prepare<[], RevisionRow>(
      'select number, manifest_digest, envelope from revisions order by number desc limit 1',
    )
    .get()
  if (!row) throw new DemoError('there is no revision to forge a successor of')
  return row
}

async function putBlob(state: string, digest: string, file: string): Promise<void> {
  const folder = join(state, 'blobs/sha256', digest.slice(0, 2))
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, digest), await readFile(file))
}
