import { pause } from '../../../shared/lifecycle.ts'
import { timeAt } from '../../../shared/read-value.ts'
import { done, failed, type Result } from '../result.ts'
import { judgeReady, type NodeEvidence, type ReadyWish } from './judge-ready.ts'
import { isNotFound, type Kubectl, type KubeResult } from './kubectl.ts'
import { leasePath, nodePath, readNode } from './node-reading.ts'

export interface WaitOptions {
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
  /** Between two looks. Absent: 2 s. */
  readonly everyMs?: number | undefined
}

export const LOOK_EVERY_MS = 2_000

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
  const renewedMs = lease.kind === 'done' ? timeAt(lease.value, 'spec', 'renewTime') : undefined
  return done({ node, renewedMs })
}

/** Waits until a node is Ready at the wanted version by evidence of its own that is newer than this call. */
export async function proveReady(
  kubectl: Kubectl,
  name: string,
  wish: ReadyWish,
  options: WaitOptions,
): Promise<Result<NodeEvidence>> {
  const until = performance.now() + options.deadlineMs
  let first: NodeEvidence | undefined
  let why = 'it was never seen'
  while (!options.signal?.aborted) {
    const seen = await readEvidence(kubectl, name, options.signal)
    if (seen.kind === 'done') {
      const verdict = judgeReady(first, seen.value, wish)
      if (verdict.kind === 'ready') return seen
      why = verdict.reason
      // A kubelet whose Node object was made anew begins anew.
      if (first?.node.uid !== seen.value.node.uid || first.renewedMs === undefined) first = seen.value
    } else {
      why = isNotFound(seen) ? 'it has no Node object' : seen.reason
    }
    if (performance.now() >= until) {
      return failed('not-ready', `node ${name} is not Ready within ${options.deadlineMs / 1000} s: ${why}`)
    }
    await pause(options.everyMs ?? LOOK_EVERY_MS, options.signal)
  }
  return failed('cancelled', `node ${name}: no longer waited for`)
}
