import { ClusterRole } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { NodeRole } from '../drivers/cluster-facts.ts'

const ROLES: Readonly<Record<NodeRole, ClusterRole>> = {
  server: ClusterRole.SERVER,
  worker: ClusterRole.WORKER,
  'server+worker': ClusterRole.SERVER_AND_WORKER,
}

export const wireRole = (role: NodeRole): ClusterRole => ROLES[role]

/** undefined: it is none that a node has. */
export function nodeRole(role: ClusterRole): NodeRole | undefined {
  return NODE_ROLES.find(each => ROLES[each] === role)
}

const NODE_ROLES = ['server', 'worker', 'server+worker'] as const
