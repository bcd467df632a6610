import { textAt, timeAt } from '../../../shared/read-value.ts'
import { done, failed, type Result } from '../result.ts'
import { MAX_NODES } from './check-joiner.ts'
import type { Kubectl } from './kubectl.ts'
import { readNode } from './node-reading.ts'

/** A Node object, or what is left of one. */
export interface SeenNode {
  readonly name: string
  /** "": there is no Node object, only something beside it that keeps others from the name. */
  readonly uid: string
  /** Its condition Ready is True, which outlives its kubelet for a while. */
  readonly saysReady: boolean
  /** When the kubelet last renewed its lease, by the kubelet's clock; undefined: never. */
  readonly renewedMs: number | undefined
  /** As the kubelet says it, such as "v1.34.3+k3s1". */
  readonly kubeletVersion: string
}

/** All Node objects, each with its lease. Fails where one cannot be read: a node that is missing here may be cleared away. */
export async function seeNodes(kubectl: Kubectl, signal?: AbortSignal): Promise<Result<readonly SeenNode[]>> {
  const listed = await kubectl.list('/api/v1/nodes', MAX_NODES, signal)
  if (listed.kind === 'failed') return listed
  const leases = await kubectl.list(
    '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases',
    MAX_NODES,
    signal,
  )
  if (leases.kind === 'failed') return leases
  const renewed = new Map(
    leases.value.map(lease => [textAt(lease, 'metadata', 'name'), timeAt(lease, 'spec', 'renewTime')]),
  )
  const nodes: SeenNode[] = []
  for (const object of listed.value) {
    const node = readNode(object)
    if (!node) return failed('unreadable', 'a Node object of the cluster cannot be read')
    nodes.push({
      name: node.name,
      uid: node.uid,
      saysReady: node.ready?.status === 'True',
      renewedMs: renewed.get(node.name),
      kubeletVersion: node.kubeletVersion,
    })
  }
  return done(nodes)
}
