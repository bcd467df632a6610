import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ClusterSummarySchema,
  GetClusterRequest,
  GetClusterResponseSchema,
  ListClustersRequest,
  ListClustersResponseSchema,
  ManifestsStandingSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { notFound } from '../../../shared/rpc/rpc-error.ts'
import { listCordons, openActs } from '../../clusters/acts/act-store.ts'
import type { ManifestsState } from '../../clusters/acts/wanted-manifests.ts'
import { describeReason } from '../../clusters/reasons.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'
import type { Caller } from '../caller.ts'
import { describeHosts, describeOpen, describeSummary } from './describe-cluster.ts'

/** All clusters of the newest revision. */
export function listClusters({ clusters, fleetTargets, clock }: ClusterServiceDeps) {
  return async (
    _request: ListClustersRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof ListClustersResponseSchema>> => {
    const found: MessageInitShape<typeof ClusterSummarySchema>[] = []
    for (const name of [...fleetTargets.current().clusters.keys()].toSorted()) {
      const snapshot = await clusters.snapshot(name)
      if (snapshot) found.push(describeSummary(snapshot, clock.now().getTime()))
    }
    return { clusters: found }
  }
}

/** One cluster in full. */
export function getCluster({ clusters, store, clock }: ClusterServiceDeps) {
  return async (
    { name }: GetClusterRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof GetClusterResponseSchema>> => {
    const snapshot = await clusters.snapshot(name)
    if (!snapshot) throw notFound(`name: the newest revision has no cluster ${name.slice(0, 64)}`)
    const acts = await openActs(store.db, name)
    const cordons = await listCordons(store.db, name)
    const waiting = clusters.waiting(name)
    const manifests = await clusters.manifests(name)
    const now = clock.now().getTime()
    const whole = waiting.filter(({ host }) => host === '').map(({ reason }) => describeReason(reason))
    const ofAll = acts.filter(({ host, act }) => host === '' && act !== 'manifests').map(describeOpen)
    return {
      summary: describeSummary(snapshot, now),
      hosts: describeHosts(snapshot, { waiting, acts, cordons }, now),
      waitsFor: [...new Set([...whole, ...ofAll])],
      ...(manifests &&
        (manifests.digest !== '' || manifests.newest) && { manifests: standingOf(name, manifests) }),
    }
  }
}

function standingOf(
  name: string,
  { revision, appliedRevision, digest, newest, isDue }: ManifestsState,
): MessageInitShape<typeof ManifestsStandingSchema> {
  return {
    revision: BigInt(revision),
    appliedRevision: BigInt(appliedRevision),
    reason: reasonOf(name, { digest, newest, isDue }),
  }
}

function reasonOf(
  name: string,
  { digest, newest, isDue }: Pick<ManifestsState, 'digest' | 'newest' | 'isDue'>,
): string {
  if (newest && newest.endedMs === undefined) {
    return newest.reason === '' ? 'they are brought by a server' : describeOpen(newest)
  }
  if (digest === '' && newest?.parameter !== '') {
    return `the revision has none any more: \`muster cluster manifests ${name} --allow-empty\` takes away what was brought before`
  }
  return isDue ? 'they are brought as soon as a server can' : ''
}
