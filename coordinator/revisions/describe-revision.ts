import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import type { RevisionSchema } from '../../shared/gen/muster/v1/revision_pb.ts'
import { invalid, notFound } from '../../shared/rpc/rpc-error.ts'
import { findRevision, newestRevision, type StoredRevision } from '../store/revisions.ts'
import type { Database } from '../store/tables.ts'

/** A revision as operators are shown it. */
export function describeRevision({ row, manifest }: StoredRevision): MessageInitShape<typeof RevisionSchema> {
  return {
    number: BigInt(manifest.number),
    manifestDigest: manifest.digest,
    treeDigest: manifest.manifest.treeDigest,
    treeLength: manifest.manifest.treeLength,
    created: timestampFromMs(row.created),
    expires: timestampFromMs(row.expires),
    published: timestampFromMs(row.published),
    publishedBy: row.published_by,
    commit: manifest.manifest.provenance?.commit ?? '',
    dirty: manifest.manifest.provenance?.dirty ?? false,
    signers: readSigners(row.signers),
    hosts: manifest.hosts.size,
    groups: manifest.groups.size,
    floor: BigInt(manifest.floor),
  }
}

/** The revision of this number; 0: the newest. Throws NOT_FOUND when there is none. */
export async function requireRevision(db: Kysely<Database>, number: bigint): Promise<StoredRevision> {
  if (number > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid('number: too large for a revision')
  const found = number === 0n ? await newestRevision(db) : await findRevision(db, Number(number))
  if (found) return found
  throw notFound(
    number === 0n
      ? 'no revision was published yet: publish one with `muster publish`'
      : `revision ${number} is not known here; \`muster revisions\` lists those that are`,
  )
}

function readSigners(json: string): string[] {
  const value: unknown = JSON.parse(json)
  return Array.isArray(value) ? value.filter(item => typeof item === 'string') : []
}
