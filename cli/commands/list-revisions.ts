import { type Revision, RevisionSchema } from '../../shared/gen/muster/v1/revision_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { formatBytes, formatRemaining } from '../duration.ts'
import type { Format } from '../output/format.ts'
import { ago } from '../output/machine-listing.ts'
import { plainOf } from '../output/plain.ts'
import { type Listing, showList } from '../output/show-list.ts'

export const REVISION_FIELDS = [
  'number',
  'manifestDigest',
  'treeDigest',
  'treeLength',
  'created',
  'expires',
  'published',
  'publishedBy',
  'commit',
  'dirty',
  'signers',
  'hosts',
  'groups',
  'floor',
] as const

function revisionListing(now: Date): Listing<Revision> {
  const at = now.getTime()
  return {
    fields: REVISION_FIELDS,
    record: revision => plainOf(RevisionSchema, revision),
    empty: 'no revisions yet; `muster publish DIR` makes the first',
    columns: [
      { title: 'REVISION', text: revision => String(revision.number) },
      { title: 'PUBLISHED', text: revision => `${ago(millisOf(revision.published), at)} ago` },
      { title: 'BY', text: revision => revision.publishedBy },
      {
        title: 'COMMIT',
        text: revision => `${revision.commit.slice(0, 12)}${revision.dirty ? '+' : ''}`,
      },
      { title: 'HOSTS', text: revision => String(revision.hosts) },
      { title: 'GROUPS', wide: true, text: revision => String(revision.groups) },
      { title: 'TREE', text: revision => formatBytes(Number(revision.treeLength)) },
      {
        title: 'EXPIRES',
        text: revision => {
          const left = (millisOf(revision.expires) ?? 0) - at
          return left > 0 ? `in ${formatRemaining(left)}` : 'expired'
        },
        style: revision => ((millisOf(revision.expires) ?? 0) > at ? 'plain' : 'bad'),
      },
      { title: 'FLOOR', wide: true, text: revision => String(revision.floor) },
      {
        title: 'SIGNERS',
        wide: true,
        text: revision => revision.signers.map(id => id.slice(0, 12)).join(' '),
      },
      { title: 'DIGEST', wide: true, text: revision => revision.manifestDigest },
    ],
  }
}

export async function listRevisions(
  cli: Cli,
  { limit, output }: { readonly limit?: number | undefined; readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { revisions } = await client.listRevisions({ limit: limit ?? 0 }, call)
    await showList(cli.io, revisions, revisionListing(cli.clock.now()), output)
  })
}
