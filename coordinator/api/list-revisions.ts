import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ListRevisionsRequest,
  ListRevisionsResponseSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { describeRevision } from '../revisions/describe-revision.ts'
import { listRevisionRows } from '../store/revisions.ts'
import type { Store } from '../store/store.ts'

const DEFAULT_LIMIT = 100
const MOST = 1000

export function listRevisions(deps: { readonly store: Store }) {
  return async (
    request: ListRevisionsRequest,
  ): Promise<MessageInitShape<typeof ListRevisionsResponseSchema>> => {
    if (request.limit > MOST) throw invalid(`limit: ${request.limit}, at most ${MOST} are allowed`)
    const revisions = await listRevisionRows(deps.store.db, request.limit || DEFAULT_LIMIT)
    return { revisions: revisions.map(describeRevision) }
  }
}
