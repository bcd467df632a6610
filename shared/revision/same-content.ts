import { sameClusters } from './clusters.ts'
import type { KnownManifest } from './read-manifest.ts'

/**
 * Whether two revisions ask the same of every machine: the same tree and targets under the same requirements. Number,
 * times and provenance say who signed when, and do not count.
 */
export function sameContent(a: KnownManifest, b: KnownManifest): boolean {
  return (
    a.manifest.fleetId === b.manifest.fleetId &&
    a.manifest.treeDigest === b.manifest.treeDigest &&
    a.manifest.treeLength === b.manifest.treeLength &&
    (a.manifest.requirements?.leastNixVersion ?? '') === (b.manifest.requirements?.leastNixVersion ?? '') &&
    sameEntries(a.hosts, b.hosts) &&
    sameEntries(a.groups, b.groups) &&
    sameClusters(a.manifest.clusters, b.manifest.clusters)
  )
}

/**
 * Whether a revision says nothing that the one before it did not say: a raised floor or a new trust set changes what machines accept, even
 * when nothing they run changes.
 */
export function saysNothingNew(before: KnownManifest, after: KnownManifest): boolean {
  const trustOf = ({ manifest }: KnownManifest) =>
    Buffer.from(manifest.trustSet?.payload ?? []).toString('base64')
  return sameContent(before, after) && before.floor === after.floor && trustOf(before) === trustOf(after)
}

function sameEntries(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([name, digest]) => b.get(name) === digest)
}
