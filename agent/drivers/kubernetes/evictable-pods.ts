import { at, isObject, type JsonObject, listAt, textAt } from '../../../shared/read-value.ts'

/** A pod that is in the way of a drain. */
export interface PodToEvict {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  /** It is on its way out; nobody has to be asked again. */
  readonly terminating: boolean
  /** Why it may not be evicted by the policy; undefined: it may. */
  readonly refusal: string | undefined
}

export interface DrainPolicy {
  /** Evict pods although what they keep on the node itself (emptyDir) is lost. */
  readonly deleteEmptyDir: boolean
  /** Evict pods that nobody makes anew. */
  readonly deleteUnmanaged: boolean
}

/**
 * What must leave a node before it is drained. A DaemonSet's pods come back at once, a mirror pod is the kubelet's own, and
 * one that has ended runs nothing: these are not counted. But one that is being deleted is, also when it has ended: until its
 * object is gone the kubelet unmounts its volumes. undefined: a pod could not be read, which is not the same as none.
 */
export function podsToEvict(
  pods: readonly JsonObject[],
  policy: DrainPolicy,
): readonly PodToEvict[] | undefined {
  const found: PodToEvict[] = []
  for (const pod of pods) {
    const namespace = textAt(pod, 'metadata', 'namespace')
    const name = textAt(pod, 'metadata', 'name')
    const uid = textAt(pod, 'metadata', 'uid')
    if (namespace === undefined || name === undefined || uid === undefined) return undefined
    const phase = textAt(pod, 'status', 'phase')
    const terminating = textAt(pod, 'metadata', 'deletionTimestamp') !== undefined
    if (!terminating && (phase === 'Succeeded' || phase === 'Failed')) continue
    if (textAt(pod, 'metadata', 'annotations', MIRROR) !== undefined) continue
    const owner = (listAt(pod, 'metadata', 'ownerReferences') ?? []).find(
      each => at(each, 'controller') === true,
    )
    if (textAt(owner, 'kind') === 'DaemonSet') continue
    const refusal = terminating ? undefined : refusalOf(pod, owner !== undefined, policy)
    found.push({ namespace, name, uid, terminating, refusal })
  }
  return found
}

const MIRROR = 'kubernetes.io/config.mirror'

function refusalOf(pod: JsonObject, managed: boolean, policy: DrainPolicy): string | undefined {
  if (!managed && !policy.deleteUnmanaged) return 'nothing makes it anew elsewhere'
  if (policy.deleteEmptyDir) return undefined
  const volume = (listAt(pod, 'spec', 'volumes') ?? []).find(each => isObject(at(each, 'emptyDir')))
  return volume === undefined
    ? undefined
    : `its volume ${textAt(volume, 'name') ?? ''} (emptyDir) would be lost`
}
