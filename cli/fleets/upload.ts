import type { PublishRevisionResponse } from '../../shared/gen/muster/v1/revision_pb.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { formatBytes } from '../duration.ts'
import { startProgress } from '../output/progress.ts'
import type { KnownRevision } from './known-revision.ts'

const CHUNK_BYTES = 64 * 1024

export interface Upload {
  readonly revision: Pick<KnownRevision, 'envelope' | 'targetBytes'>
  readonly expectedPredecessor: string
  readonly renew: boolean
  /** The packed tree; none when a tree is renewed that the coordinator has. */
  readonly tree: { readonly chunks: AsyncIterable<Uint8Array>; readonly length: number } | undefined
}

/** Sends a signed revision. What comes back was judged by the coordinator as a machine would judge it. */
export async function upload(
  cli: Cli,
  { client, call }: Connection,
  { revision, expectedPredecessor, renew, tree }: Upload,
): Promise<PublishRevisionResponse> {
  using progress = startProgress(cli, 'upload')
  const requests = (async function* () {
    yield {
      part: {
        case: 'header' as const,
        value: {
          envelope: revision.envelope,
          targets: [...revision.targetBytes],
          expectedPredecessor,
          renew,
        },
      },
    }
    let sent = 0
    for await (const chunk of tree?.chunks ?? []) {
      for (let at = 0; at < chunk.length; at += CHUNK_BYTES) {
        const piece = chunk.subarray(at, at + CHUNK_BYTES)
        sent += piece.length
        progress.update(`${formatBytes(sent)} of ${formatBytes(tree?.length ?? 0)}`)
        yield { part: { case: 'chunk' as const, value: piece } }
      }
    }
  })()
  return client.publishRevision(requests, call)
}
