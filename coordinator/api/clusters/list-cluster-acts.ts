import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ListClusterActsRequest,
  ListClusterActsResponseSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { invalid } from '../../../shared/rpc/rpc-error.ts'
import { listActs } from '../../clusters/acts/act-store.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'
import type { Caller } from '../caller.ts'
import { describeAct } from './describe-act.ts'

const DEFAULT_LIMIT = 50
const MOST = 500

/** Acts, newest first. */
export function listClusterActs({ store }: ClusterServiceDeps) {
  return async (
    { cluster, limit }: ListClusterActsRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof ListClusterActsResponseSchema>> => {
    if (limit > MOST) throw invalid(`limit: at most ${MOST}`)
    const acts = await listActs(store.db, {
      ...(cluster !== '' && { cluster }),
      limit: limit === 0 ? DEFAULT_LIMIT : limit,
    })
    return { acts: acts.map(act => describeAct(act)) }
  }
}
