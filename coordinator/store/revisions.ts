import { fromBinary, toBinary } from '@bufbuild/protobuf'
import type { Insertable, Kysely, Selectable, Transaction } from 'kysely'
import { type Envelope, EnvelopeSchema } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type KnownManifest, readManifest } from '../../shared/revision/read-manifest.ts'
import type { Database, RevisionsTable } from './tables.ts'

export type RevisionRow = Selectable<RevisionsTable>

/** A revision as it stands in the store, decoded. */
export interface StoredRevision {
  readonly row: RevisionRow
  readonly envelope: Envelope
  readonly manifest: KnownManifest
}

export async function newestRevision(db: Kysely<Database>): Promise<StoredRevision | undefined> {
  const row = await db
    .selectFrom('revisions')
    .selectAll()
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row && decodeRevision(row)
}

/** Number and digest of the newest revision, without decoding it; undefined: there is none. */
export async function newestDigest(
  db: Kysely<Database>,
): Promise<{ readonly number: number; readonly digest: string } | undefined> {
  const row = await db
    .selectFrom('revisions')
    .select(['number', 'manifest_digest'])
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row && { number: row.number, digest: row.manifest_digest }
}

export async function findRevision(
  db: Kysely<Database>,
  number: number,
): Promise<StoredRevision | undefined> {
  const row = await db.selectFrom('revisions').selectAll().where('number', '=', number).executeTakeFirst()
  return row && decodeRevision(row)
}

/** Newest first. */
export async function listRevisionRows(db: Kysely<Database>, limit: number): Promise<StoredRevision[]> {
  const rows = await db.selectFrom('revisions').selectAll().orderBy('number', 'desc').limit(limit).execute()
  return rows.map(decodeRevision)
}

/** All trees that a revision names. */
export async function trees(db: Kysely<Database>): Promise<{ digest: string; length: number }[]> {
  const rows = await db
    .selectFrom('revisions')
    .select(['tree_digest', 'tree_length'])
    .distinct()
    .orderBy('tree_digest')
    .execute()
  return rows.map(row => ({ digest: row.tree_digest, length: row.tree_length }))
}

/** Digests of all trees that a revision names: what a sweep must keep. */
export async function treeDigests(db: Kysely<Database>): Promise<Set<string>> {
  return new Set((await trees(db)).map(({ digest }) => digest))
}

/** Takes down a revision that was judged. Fails on its number when somebody was faster. */
export async function insertRevision(
  tx: Transaction<Database>,
  envelope: Envelope,
  manifest: KnownManifest,
  published: { readonly at: Date; readonly by: string; readonly signers: readonly string[] },
): Promise<void> {
  const row: Insertable<RevisionsTable> = {
    number: manifest.number,
    manifest_digest: manifest.digest,
    envelope: toBinary(EnvelopeSchema, envelope),
    tree_digest: manifest.manifest.treeDigest,
    tree_length: Number(manifest.manifest.treeLength),
    created: manifest.created.getTime(),
    expires: manifest.expires.getTime(),
    published: published.at.getTime(),
    published_by: published.by,
    signers: JSON.stringify(published.signers),
  }
  await tx.insertInto('revisions').values(row).execute()
}

/** Reads a row back. A row whose manifest is not the one its digest names is an error, never a revision. */
function decodeRevision(row: RevisionRow): StoredRevision {
  const envelope = fromBinary(EnvelopeSchema, row.envelope)
  const read = readManifest(envelope.payload)
  if (read.kind === 'refused') {
    throw new Error(`revision ${row.number} in the store is not readable (${read.reason}): restore a backup`)
  }
  if (read.manifest.digest !== row.manifest_digest || read.manifest.number !== row.number) {
    throw new Error(`revision ${row.number} in the store was changed: restore a backup`)
  }
  return { row, envelope, manifest: read.manifest }
}
