import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  StartClusterActRequest,
  StartClusterActResponseSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { isForChange } from '../../../shared/kubernetes/snapshot-name.ts'
import { exists, invalid, notFound, precondition } from '../../../shared/rpc/rpc-error.ts'
import { findActByRequest } from '../../clusters/acts/act-store.ts'
import type { AskedWord } from '../../clusters/acts/cluster-act.ts'
import { type Asked, type Granted, operatorRequest } from '../../clusters/acts/grant-act.ts'
import { readAsk } from '../../clusters/acts/read-ask.ts'
import { CLUSTER_ACTIONS } from '../../rollouts/plan/rollout-record.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'
import { findRolloutByRequest } from '../../store/rollouts.ts'
import { actorOf, type Caller } from '../caller.ts'
import { listProblems } from '../list-problems.ts'
import { describeAct } from './describe-act.ts'
import { findClusterOf } from './find-cluster.ts'
import { type RollOutActDeps, rollOutAct } from './roll-out-act.ts'

export interface StartActDeps extends ClusterServiceDeps, RollOutActDeps {
  readonly directory: RollOutActDeps['directory']
  /** The one way to an act that disrupts no host. */
  readonly grantAct: (asked: Asked) => Promise<Granted>
}

/** Acts that disrupt no host, and so wait for no gate. Every other goes through the planner of rollouts. */
export const DIRECT_ACTS: readonly AskedWord[] = [
  // Nothing that runs there is touched, or what was taken away is given back.
  ...(['cordon', 'uncordon', 'return'] as const),
  // They read, copy, or bring what the cluster's own controllers carry out.
  ...(['snapshot', 'snapshots', 'certificates', 'kubeconfig', 'manifests'] as const),
]

/** Asks for one act in a cluster. */
export function startClusterAct(deps: StartActDeps) {
  return async (
    request: StartClusterActRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof StartClusterActResponseSchema>> => {
    const read = readAsk(request, deps.clock.now())
    if (read.act === 'snapshot' && isForChange(read.parameter)) {
      throw invalid('parameter: that is how copies on the way to a change are named, which do not stay')
    }
    const cluster = read.cluster === '' ? await findClusterOf(deps, read.host) : read.cluster
    const ask = { ...read, cluster }
    const action = DIRECT_ACTS.includes(read.act)
      ? undefined
      : CLUSTER_ACTIONS.find(known => known === read.act)
    await checkRequest(deps, request.requestId, action !== undefined)
    if (action !== undefined) return await rollOutAct(deps, action, request, ask, caller)
    if (!DIRECT_ACTS.includes(read.act)) throw new Error(`no rollout does ${read.act}`)
    const granted = await deps.grantAct({ ask, askedBy: actorOf(caller) })
    switch (granted.kind) {
      case 'granted':
        deps.clusters.trigger(cluster)
        deps.log.info({ cluster, act: read.act, host: read.host, id: granted.act.id }, 'cluster act begun')
        return { act: describeAct(granted.act) }
      case 'known':
        if (granted.act.intent !== read.intent) throw usedBefore()
        return { act: describeAct(granted.act) }
      case 'refused':
        throw precondition(listProblems(granted.problems))
      case 'no-cluster':
        throw notFound(`cluster: the newest revision has no cluster ${cluster}`)
    }
  }
}

/** One id is one wish, on whichever of the two ways it went. */
async function checkRequest({ store }: StartActDeps, requestId: string, rollsOut: boolean): Promise<void> {
  const other = rollsOut
    ? await findActByRequest(store.db, operatorRequest(requestId))
    : await findRolloutByRequest(store.db, requestId)
  if (other) throw usedBefore()
}

function usedBefore() {
  return exists('request_id: was used for another act already; use a new one for each intent')
}
