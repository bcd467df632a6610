import { at, textAt, timeAt } from '../../../shared/read-value.ts'
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
  /** The boot of its machine, as the kubelet says it; missing: it does not. */
  readonly bootId?: string
  /** How long its lease lasts; missing: it has none that says. */
  readonly leaseMs?: number | undefined
  /** It takes no new pods, whoever cordoned it; missing: there is no Node object. */
  readonly unschedulable?: boolean
  /** The operation of ours whose mark is on it; missing: none. */
  readonly cordonedBy?: string | undefined
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
  const known = new Map(leases.value.map(lease => [textAt(lease, 'metadata', 'name'), lease]))
  const nodes: SeenNode[] = []
  for (const object of listed.value) {
    const node = readNode(object)
    if (!node) return failed('unreadable', 'a Node object of the cluster cannot be read')
    const lease = known.get(node.name)
    const seconds = at(lease, 'spec', 'leaseDurationSeconds')
    nodes.push({
      name: node.name,
      uid: node.uid,
      saysReady: node.ready?.status === 'True',
      renewedMs: timeAt(lease, 'spec', 'renewTime'),
      kubeletVersion: node.kubeletVersion,
      bootId: node.bootId,
      unschedulable: node.unschedulable,
      cordonedBy: node.cordonedBy?.slice(0, 64),
      leaseMs: typeof seconds === 'number' ? seconds * 1_000 : undefined,
    })
  }
  return done(nodes)
}
