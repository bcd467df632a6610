import { pause } from '../../../shared/lifecycle.ts'
import type { RuntimeClient } from '../cri/runtime-client.ts'
import type { PodSandbox } from '../cri/wire.ts'
import { DONE, failed, type Result } from '../result.ts'

/** As many pods are ended beside each other; all of them at once would have a runtime answer late. */
const AT_ONCE = 32
/** What a pod is given that asks for nothing, and the most that any is given: nobody waits for hours for a machine to leave. */
const GRACE_SECONDS = 30
const LOOKS = 3

export interface TakenPods {
  readonly runtime: RuntimeClient
  /** Which of those that are there. */
  readonly isMeant: (sandbox: PodSandbox) => boolean
  readonly signal?: AbortSignal | undefined
}

/**
 * Ends pods by way of their runtime and takes them away, with their networks: containers outlive the kubelet, which must be down, or
 * it starts them anew. Each is given the time that it asks for. Done when a listing made afterwards holds none.
 */
export async function takePodsAway({ runtime, isMeant, signal }: TakenPods): Promise<Result<void>> {
  // What was being made when the kubelet went is listed a moment later.
  for (let look = 0; ; look += 1) {
    const listed = await runtime.sandboxes(signal)
    if (listed.kind === 'failed') return listed
    const meant = listed.value.filter(isMeant)
    if (meant.length === 0) return DONE
    if (look === LOOKS) {
      const names = meant.map(({ namespace, name }) => `${namespace}/${name}`)
      return failed(
        'command',
        `pods are still there after they were taken away: ${names.join(', ')}`.slice(0, 500),
      )
    }
    if (look > 0 && !(await pause(500, signal))) return failed('cancelled', 'pods are no longer taken away')
    for (let first = 0; first < meant.length; first += AT_ONCE) {
      const ends = await Promise.all(
        meant.slice(first, first + AT_ONCE).map(async each => await takeAway(runtime, each, signal)),
      )
      const failure = ends.find(({ kind }) => kind === 'failed')
      if (failure) return failure
    }
  }
}

async function takeAway(
  runtime: RuntimeClient,
  { id }: PodSandbox,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const containers = await runtime.containers(id, signal)
  if (containers.kind === 'failed') return containers
  const ends = await Promise.all(
    containers.value.map(async each => {
      const graceSeconds = Math.min(each.graceSeconds ?? GRACE_SECONDS, GRACE_SECONDS)
      return await runtime.stopContainer(each.id, graceSeconds, signal)
    }),
  )
  return ends.find(({ kind }) => kind === 'failed') ?? (await runtime.removeSandbox(id, signal))
}
