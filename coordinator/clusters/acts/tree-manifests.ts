import { createHash, type Hash } from 'node:crypto'
import { readTree } from '../../../shared/tree/read-tree.ts'
import type { BlobName, Blobs } from '../../revisions/blobs.ts'

/** Where a cluster's manifests lie in the fleet directory: manifests/CLUSTER/. */
const FOLDER = /^manifests\/([a-z0-9-]+)\/./

/**
 * By cluster a digest over the names and contents of its manifests in a packed tree; a cluster without any is missing.
 * The tree was checked when it was published; it is read once and never kept.
 */
export async function manifestDigests(
  blobs: Pick<Blobs, 'read'>,
  tree: BlobName,
): Promise<ReadonlyMap<string, string>> {
  const hashes = new Map<string, Hash>()
  for await (const { entry, content } of readTree(blobs.read(tree))) {
    const cluster = FOLDER.exec(entry.path)?.[1]
    const hash = cluster === undefined ? undefined : (hashes.get(cluster) ?? createHash('sha256'))
    if (cluster !== undefined && hash) {
      hashes.set(cluster, hash)
      // Sizes stand before contents, so that nothing can be moved from one file to the next.
      hash.update(`${entry.kind} ${entry.path}\0${entry.kind === 'file' ? entry.size : entry.target}\0`)
    }
    for await (const piece of content) hash?.update(piece)
  }
  return new Map([...hashes].map(([cluster, hash]) => [cluster, hash.digest('hex')]))
}
