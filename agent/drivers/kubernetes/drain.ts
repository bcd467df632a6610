import { pause } from '../../../shared/lifecycle.ts'
import { done, failed, type Result } from '../result.ts'
import { untilControllersLead } from './controllers.ts'
import { type DrainPolicy, type PodToEvict, podsToEvict } from './evictable-pods.ts'
import { isNotFound, type Kubectl } from './kubectl.ts'
import { nodePath, readNode } from './node-reading.ts'
import { LOOK_EVERY_MS, type WaitOptions } from './wait-options.ts'

export interface DrainEnd {
  /** Pods that were asked to leave. */
  readonly evicted: number
}

/** A kubelet runs 110 pods where nobody says otherwise. */
const MAX_PODS = 2_000
const SHOWN = 10

/**
 * Empties a node: asks each pod to leave by the API's own eviction, which keeps the disruption budgets, and counts again
 * until none is left. Drained means none was counted: a cordon says nothing of it, and time that runs out is a failure
 * that names each pod in the way and why. The node must be cordoned first, or pods would come as fast as they leave; and
 * nobody is asked to leave before somebody is there who tells services of it.
 */
export async function drainNode(
  kubectl: Kubectl,
  name: string,
  policy: DrainPolicy,
  options: WaitOptions,
): Promise<Result<DrainEnd>> {
  const until = performance.now() + options.deadlineMs
  const asked = new Set<string>()
  let controlled = false
  while (!options.signal?.aborted) {
    const count = await countPods(kubectl, name, policy, options.signal)
    if (count.kind === 'failed') return count
    if (count.value.length === 0) return done({ evicted: asked.size })
    if (!controlled && count.value.some(mayLeave)) {
      const leading = await untilControllersLead(kubectl, {
        ...options,
        deadlineMs: until - performance.now(),
      })
      if (leading.kind === 'failed') return leading
      controlled = true
    }
    const blockers = new Map<PodToEvict, string>()
    for (const pod of count.value) {
      if (options.signal?.aborted) break
      const why = pod.terminating
        ? 'it is ending, and not gone yet'
        : (pod.refusal ?? (await evict(kubectl, pod, options.signal)))
      if (why !== undefined) blockers.set(pod, why)
      else asked.add(pod.uid)
    }
    // What the policy forbids does not change by waiting.
    const forbidden = count.value.some(pod => pod.refusal !== undefined) && count.value.every(waitsForNothing)
    if (forbidden || performance.now() >= until) {
      const after = forbidden ? '' : ` within ${options.deadlineMs / 1000} s`
      return failed(
        'blocked',
        `node ${name} is not drained${after}: ${describeBlockers(count.value, blockers)}`,
      )
    }
    await pause(options.everyMs ?? LOOK_EVERY_MS, options.signal)
  }
  return failed('cancelled', `node ${name}: no longer drained`)
}

const mayLeave = ({ refusal, terminating }: PodToEvict): boolean => refusal === undefined && !terminating

const waitsForNothing = ({ refusal, terminating }: PodToEvict): boolean =>
  refusal !== undefined && !terminating

/** What is left on a node, when it is cordoned: without that the count would be worth nothing a moment later. */
export async function countPods(
  kubectl: Kubectl,
  name: string,
  policy: DrainPolicy,
  signal?: AbortSignal,
): Promise<Result<readonly PodToEvict[]>> {
  const object = await kubectl.get(nodePath(name), signal)
  if (isNotFound(object)) return failed('not-found', `no node ${name} in the cluster`)
  if (object.kind === 'failed') return object
  if (readNode(object.value)?.unschedulable !== true) {
    return failed('precondition', `node ${name} is not cordoned: cordon it before it is drained`)
  }
  const field = encodeURIComponent(`spec.nodeName=${name}`)
  const pods = await kubectl.list(`/api/v1/pods?fieldSelector=${field}`, MAX_PODS, signal)
  if (pods.kind === 'failed') return pods
  const left = podsToEvict(pods.value, policy)
  return left ? done(left) : failed('unreadable', `pods of node ${name}: one has no name or uid`)
}

/** Asks one pod to leave; answers why it does not. */
async function evict(kubectl: Kubectl, pod: PodToEvict, signal?: AbortSignal): Promise<string | undefined> {
  const { namespace, name, uid } = pod
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/eviction`
  const answer = await kubectl.create(
    path,
    {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { name, namespace },
      // Only the pod that was counted: one that has the name by now may be wanted.
      deleteOptions: { preconditions: { uid } },
    },
    signal,
  )
  if (answer.kind === 'done' || isNotFound(answer)) return undefined
  return ('said' in answer ? answer.said : undefined) ?? answer.reason
}

function describeBlockers(left: readonly PodToEvict[], why: ReadonlyMap<PodToEvict, string>): string {
  const told = left
    .slice(0, SHOWN)
    .map(pod => `pod ${pod.namespace}/${pod.name}: ${why.get(pod) ?? 'asked to leave, still there'}`)
  const more = left.length > SHOWN ? `; and ${left.length - SHOWN} more` : ''
  return `${told.join('; ')}${more}`
}
