import { at, timeAt } from '../../../shared/read-value.ts'
import { done, failed } from '../result.ts'
import { isNotFound, type Kubectl, type KubeResult } from './kubectl.ts'
import { leasePath, type NodeReading, nodePath, readNode } from './node-reading.ts'

/** What is known of a node at one moment, by the API server. */
export interface NodeEvidence {
  readonly node: NodeReading
  /** When the kubelet last renewed its lease, by the kubelet's clock; undefined: it has none. */
  readonly renewedMs: number | undefined
  /** How long its lease lasts; missing: it has none that says. */
  readonly leaseMs?: number | undefined
}

/** What the API server knows of a node now. */
export async function readEvidence(
  kubectl: Kubectl,
  name: string,
  signal?: AbortSignal,
): Promise<KubeResult<NodeEvidence>> {
  const object = await kubectl.get(nodePath(name), signal)
  if (object.kind === 'failed') return object
  const node = readNode(object.value)
  if (!node) return failed('unreadable', `node ${name}: the API server's answer is no Node`)
  const lease = await kubectl.get(leasePath(name), signal)
  if (lease.kind === 'failed' && !isNotFound(lease)) return lease
  if (lease.kind === 'failed') return done({ node, renewedMs: undefined })
  const seconds = at(lease.value, 'spec', 'leaseDurationSeconds')
  return done({
    node,
    renewedMs: timeAt(lease.value, 'spec', 'renewTime'),
    leaseMs: typeof seconds === 'number' ? seconds * 1_000 : undefined,
  })
}
