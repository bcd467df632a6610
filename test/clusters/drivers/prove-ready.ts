import type { ClusterActs } from '../../../agent/drivers/driver.ts'
import { isVersion } from '../../../agent/drivers/kubernetes/kubelet-version.ts'
import type { NodeEvidence } from '../../../agent/drivers/kubernetes/read-evidence.ts'
import { failed, type Result } from '../../../agent/drivers/result.ts'
import { pause } from '../../../shared/lifecycle.ts'

export interface NodeProof {
  readonly node: string
  readonly version: string
  /** What was seen before its kubelet was started anew; missing: it was not. */
  readonly before?: NodeEvidence
}

const LOOK_EVERY_MS = 2_000

/** Waits until a node is Ready at a version, and its lease was renewed since this began to look. */
export async function proveReady(
  cluster: Pick<ClusterActs, 'readEvidence'>,
  proof: NodeProof,
  deadlineMs: number,
): Promise<Result<NodeEvidence>> {
  const until = performance.now() + deadlineMs
  let first: NodeEvidence | undefined
  let why = 'it was never seen'
  for (;;) {
    const seen = await cluster.readEvidence(proof.node)
    if (seen.kind === 'failed') why = seen.reason
    else {
      const reason = whyNotReady(first, seen.value, proof)
      if (reason === undefined) return seen
      why = reason
      if (first?.node.uid !== seen.value.node.uid || first.renewedMs === undefined) first = seen.value
    }
    if (performance.now() >= until) return failed('not-ready', `node ${proof.node} is not Ready: ${why}`)
    await pause(LOOK_EVERY_MS)
  }
}

function whyNotReady(
  first: NodeEvidence | undefined,
  { node, renewedMs }: NodeEvidence,
  { version, before }: NodeProof,
): string | undefined {
  if (node.ready?.status !== 'True') return `Ready is ${node.ready?.status ?? 'not said'}`
  if (!isVersion(node.kubeletVersion, version)) return `its kubelet is ${node.kubeletVersion}`
  if (first?.renewedMs === undefined || renewedMs === undefined || renewedMs <= first.renewedMs)
    return 'its kubelet has not renewed its lease'
  const heardMs = before?.node.uid === node.uid ? before.node.ready?.heartbeatMs : undefined
  return heardMs !== undefined && node.ready.heartbeatMs <= heardMs
    ? 'its kubelet has not said Ready since it was started anew'
    : undefined
}
