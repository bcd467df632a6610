import type { MessageInitShape } from '@bufbuild/protobuf'
import { exists, notFound, precondition } from '../../../shared/errors.ts'
import type {
  StartClusterActRequest,
  StartClusterActResponseSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { Asked, Granted } from '../../clusters/acts/grant-act.ts'
import { readAsk } from '../../clusters/acts/read-ask.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'
import { actorOf, type Caller } from '../caller.ts'
import { listProblems } from '../list-problems.ts'
import { describeAct } from './describe-act.ts'
import { findClusterOf } from './find-cluster.ts'

export interface StartActDeps extends ClusterServiceDeps {
  /** The one way to an act. */
  readonly grantAct: (asked: Asked) => Promise<Granted>
}

/** Asks for one act in a cluster. */
export function startClusterAct(deps: StartActDeps) {
  return async (
    request: StartClusterActRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof StartClusterActResponseSchema>> => {
    const read = readAsk(request, deps.clock.now())
    const cluster = read.cluster === '' ? await findClusterOf(deps, read.host) : read.cluster
    const granted = await deps.grantAct({ ask: { ...read, cluster }, askedBy: actorOf(caller) })
    switch (granted.kind) {
      case 'granted':
        deps.clusters.trigger(cluster)
        deps.log.info({ cluster, act: read.act, host: read.host, id: granted.act.id }, 'cluster act begun')
        return { act: describeAct(granted.act) }
      case 'known':
        if (granted.act.intent !== read.intent) {
          throw exists('request_id: was used for another act already; use a new one for each intent')
        }
        return { act: describeAct(granted.act) }
      case 'refused':
        throw precondition(listProblems(granted.problems))
      case 'no-cluster':
        throw notFound(`cluster: the newest revision has no cluster ${cluster}`)
    }
  }
}
