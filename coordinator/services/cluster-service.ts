import type { Clock } from '../../shared/clock.ts'
import type { ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Logger } from '../../shared/log.ts'
import type { Peer, ServiceHandlers } from '../../shared/rpc/definition.ts'
import type { Caller } from '../api/caller.ts'
import { adoptCluster } from '../api/clusters/adopt-cluster.ts'
import { listClusterActs } from '../api/clusters/list-cluster-acts.ts'
import { getCluster, listClusters } from '../api/clusters/show-clusters.ts'
import { type StartActDeps, startClusterAct } from '../api/clusters/start-cluster-act.ts'
import { watchClusterAct } from '../api/clusters/watch-cluster-act.ts'
import type { Conductor } from '../clusters/conductor.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { FleetTargetsCache } from '../revisions/fleet-targets.ts'
import type { Store } from '../store/store.ts'
import type { OpenCalls } from './open-calls.ts'
import { operatorsOnly } from './operators-only.ts'

export interface ClusterServiceDeps {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly directory: Pick<MachineDirectory, 'machineOf' | 'assignment'>
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
  readonly clusters: Pick<
    Conductor,
    'snapshot' | 'waiting' | 'manifests' | 'trigger' | 'feed' | 'kubeconfigs'
  >
}

/** What operators may ask of clusters. */
export function clusterService(
  deps: StartActDeps & { readonly openCalls: OpenCalls },
  callerOf: (peer: Peer) => Caller,
): ServiceHandlers<typeof ClusterService> {
  const { asked, streamed } = operatorsOnly(deps.openCalls, callerOf)
  return {
    listClusters: asked(listClusters(deps)),
    getCluster: asked(getCluster(deps)),
    adoptCluster: asked(adoptCluster(deps)),
    startClusterAct: asked(startClusterAct(deps)),
    watchClusterAct: streamed(watchClusterAct(deps)),
    listClusterActs: asked(listClusterActs(deps)),
  }
}
