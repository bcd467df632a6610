import { waitFor } from '../drivers/node/services.ts'
import { done, failed, type Result } from '../drivers/result.ts'
import type { ArmedRuntime } from '../safety/arm-record.ts'
import type { NodeKubernetes } from './node-kubernetes.ts'

const LOOK_EVERY_MS = 1_000
/** So long the API server is tried for; who cannot reach it learns nothing of the node by waiting longer. */
const UNHEARD_MS = 30_000

export interface RuntimeWait {
  readonly deadlineMs: number
  readonly signal: AbortSignal
  readonly everyMs?: number
  readonly unheardMs?: number
}

/**
 * Waits until a restarted container runtime is ready, with its network and node where these were ready before. The runtime is
 * asked first: what the API server says of the node may be of before the restart. Says what was seen.
 */
export async function proveRuntime(
  kubernetes: Pick<NodeKubernetes, 'runtimeConditions' | 'readNode'>,
  { endpoint, network, node: wasReady }: ArmedRuntime,
  { deadlineMs, signal, everyMs = LOOK_EVERY_MS, unheardMs = UNHEARD_MS }: RuntimeWait,
): Promise<Result<string>> {
  let waiting = 'it was not looked at'
  let unheardSince: number | undefined
  const seen = await waitFor(
    deadlineMs,
    signal,
    async () => {
      const problem =
        endpoint === undefined ? undefined : await notReady(kubernetes, endpoint, network, signal)
      if (problem !== undefined) {
        waiting = problem
        return undefined
      }
      const node = await kubernetes.readNode(signal)
      switch (node.kind) {
        case 'ready':
          return 'the container runtime is ready, and so is the node'
        case 'no-kubelet':
          return 'the container runtime is ready; no kubelet runs here now'
        case 'not-ready':
          if (!wasReady) return `the container runtime is ready; ${node.reason}, nor was it before`
          unheardSince = undefined
          waiting = node.reason
          return undefined
        case 'unknown':
          waiting = `the API server cannot be asked: ${node.reason}`
          unheardSince ??= performance.now()
          return performance.now() - unheardSince < unheardMs
            ? undefined
            : `the container runtime is ready; whether the node is, nobody says (${node.reason})`
      }
    },
    everyMs,
  )
  if (signal.aborted) return failed('cancelled', 'no longer waited for')
  return seen === undefined
    ? failed('timed-out', `${waiting}, after ${Math.round(deadlineMs / 1_000)} s`)
    : done(seen)
}

async function notReady(
  kubernetes: Pick<NodeKubernetes, 'runtimeConditions'>,
  endpoint: string,
  network: boolean,
  signal: AbortSignal,
): Promise<string | undefined> {
  const asked = await kubernetes.runtimeConditions(endpoint, signal)
  if (asked.kind === 'failed') return asked.reason
  for (const name of network ? ['RuntimeReady', 'NetworkReady'] : ['RuntimeReady']) {
    const condition = asked.value.get(name)
    if (condition?.holds) continue
    const why = [condition?.reason, condition?.message].filter(text => text).join(': ')
    return `the container runtime at ${endpoint} does not say ${name}${why === '' ? '' : ` (${why})`}`
  }
  return undefined
}
