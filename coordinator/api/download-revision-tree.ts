import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  DownloadRevisionTreeRequest,
  DownloadRevisionTreeResponseSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import type { Blobs } from '../revisions/blobs.ts'
import { requireRevision } from '../revisions/describe-revision.ts'
import type { Store } from '../store/store.ts'

export function downloadRevisionTree(deps: { readonly store: Store; readonly blobs: Blobs }) {
  return async function* (
    request: DownloadRevisionTreeRequest,
  ): AsyncGenerator<MessageInitShape<typeof DownloadRevisionTreeResponseSchema>> {
    const { manifest } = await requireRevision(deps.store.db, request.number)
    const { treeDigest: digest, treeLength } = manifest.manifest
    for await (const chunk of deps.blobs.read({ digest, length: Number(treeLength) })) yield { chunk }
  }
}
