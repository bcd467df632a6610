import type { ClusterView } from './rollout-snapshot.ts'

/** The server of a cluster that goes after the others, and why. */
export interface LastServer {
  readonly host: string
  readonly why: string
}

/**
 * The one that leads the datastore, so that it is elected anew once and not with every server: whoever is taken away before it leaves it in
 * place. It is who leads now: should another be elected while the rollout goes on, that one is last of those that are left. While nobody can say
 * who leads, the one at which the others join.
 */
export function lastServer(
  cluster: Pick<ClusterView, 'leader' | 'first'> | undefined,
): LastServer | undefined {
  if (cluster?.leader !== undefined) return { host: cluster.leader, why: 'it leads the datastore' }
  if (cluster?.first === undefined) return undefined
  return { host: cluster.first, why: 'the others join at it, and nobody says who leads the datastore' }
}
