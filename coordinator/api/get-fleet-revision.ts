import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  GetFleetRevisionRequest,
  GetFleetRevisionResponseSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import { describeRevision, requireRevision } from '../revisions/describe-revision.ts'
import type { Store } from '../store/store.ts'
import { targetsOfRevision } from '../store/targets.ts'

export function getFleetRevision(deps: { readonly store: Store }) {
  return async (
    request: GetFleetRevisionRequest,
  ): Promise<MessageInitShape<typeof GetFleetRevisionResponseSchema>> => {
    const revision = await requireRevision(deps.store.db, request.number)
    const targets = await targetsOfRevision(deps.store.db, revision.manifest.number)
    return {
      envelope: revision.envelope,
      targets: targets.map(({ target }) => target),
      revision: describeRevision(revision),
    }
  }
}
