import { at, isObject, type JsonObject, listAt, textAt, timeAt } from '../../../shared/read-value.ts'
import type { JobGate } from '../../../shared/revision/clusters.ts'

/** On the Job of a gate and on its pods; its value is the gate's name. */
export const GATE_LABEL = 'muster/gate'

/** When it is over and nobody took it away, since the agent was killed. */
const KEPT_SECONDS = 600
const MAX_NAME = 63

/** A Job as it is made for one asking. */
export interface GateRun {
  readonly object: JsonObject
  readonly namespace: string
  readonly name: string
  /** For people: as the file has it, so that two askings say the same. */
  readonly shown: string
  /** Until it must have completed. */
  readonly limitMs: number
}

/**
 * The Job of a gate's file for one asking: under a name of its own, with our label, tried once where the file does not say how
 * often, and with an end. All else is as it is written. `suffix`: 8 hex characters.
 */
export function gateRun(
  job: JsonObject,
  gate: Pick<JobGate, 'name' | 'deadlineMs'>,
  suffix: string,
): GateRun {
  const namespace = textAt(job, 'metadata', 'namespace') ?? 'default'
  const written = textAt(job, 'metadata', 'name') ?? gate.name
  const name = `${written.slice(0, MAX_NAME - 1 - suffix.length).replace(/-+$/, '')}-${suffix}`
  const spec = objectAt(job, 'spec')
  const ownSeconds = typeof spec.activeDeadlineSeconds === 'number' ? spec.activeDeadlineSeconds : Infinity
  const object = {
    ...job,
    metadata: { ...withLabel(objectAt(job, 'metadata'), gate.name), name, namespace },
    spec: {
      ...spec,
      backoffLimit: spec.backoffLimit ?? 0,
      activeDeadlineSeconds: Math.min(ownSeconds, Math.ceil(gate.deadlineMs / 1000)),
      ttlSecondsAfterFinished: KEPT_SECONDS,
      template: {
        ...objectAt(spec, 'template'),
        metadata: withLabel(objectAt(spec, 'template', 'metadata'), gate.name),
      },
    },
  }
  const limitMs = Math.min(ownSeconds * 1000, gate.deadlineMs)
  return { object, namespace, name, shown: `Job ${namespace}/${written}`, limitMs }
}

function withLabel(metadata: JsonObject, gate: string): JsonObject {
  return { ...metadata, labels: { ...objectAt(metadata, 'labels'), [GATE_LABEL]: gate } }
}

/** What is missing is an empty one: the API server says what must not be. */
function objectAt(value: JsonObject, ...keys: readonly string[]): JsonObject {
  const found = at(value, ...keys)
  return isObject(found) ? found : {}
}

/** How a Job stands, by its own conditions. */
export type JobStanding =
  | { readonly kind: 'running' }
  | { readonly kind: 'completed' }
  /** It was ended for having taken too long. */
  | { readonly kind: 'late' }
  | { readonly kind: 'failed'; readonly reason: string }
  /** Somebody takes it away. */
  | { readonly kind: 'going' }

export function judgeJob(job: JsonObject): JobStanding {
  const holds = (type: string) =>
    listAt(job, 'status', 'conditions')?.find(
      each => textAt(each, 'type') === type && textAt(each, 'status') === 'True',
    )
  if (holds('Complete')) return { kind: 'completed' }
  // Its pods are being taken away: what is seen of them from now on says nothing of the Job.
  if (textAt(holds('FailureTarget'), 'reason') === DEADLINE) return { kind: 'late' }
  const failed = holds('Failed')
  if (failed) {
    const reason = textAt(failed, 'reason') ?? ''
    const message = (textAt(failed, 'message') ?? '').slice(0, MAX_WORDS)
    if (reason === DEADLINE) return { kind: 'late' }
    return {
      kind: 'failed',
      reason: [reason, message].filter(text => text !== '').join(': ') || 'without a reason',
    }
  }
  return textAt(job, 'metadata', 'deletionTimestamp') === undefined ? { kind: 'running' } : { kind: 'going' }
}

const MAX_WORDS = 200
const DEADLINE = 'DeadlineExceeded'

/** Whether Kubernetes has made no pod of it, by what it counts itself: pods that are gone are seen nowhere else. */
export function hasMadeNoPod(job: JsonObject): boolean {
  return ['active', 'terminating', 'succeeded', 'failed'].every(key => {
    const count = at(job, 'status', key)
    return typeof count !== 'number' || count === 0
  })
}

/** The pod that was made last; undefined: there is none. */
export function newestPod(pods: readonly JsonObject[]): JsonObject | undefined {
  const madeMs = (pod: JsonObject) => timeAt(pod, 'metadata', 'creationTimestamp') ?? 0
  return pods.toSorted((a, b) => madeMs(b) - madeMs(a))[0]
}

/** What keeps a pod from having ended, for people. */
export function whatPodWaitsFor(pod: JsonObject): string {
  for (const status of containersOf(pod)) {
    const waiting = at(status, 'state', 'waiting')
    // What comes after another container waits for that one.
    if (!isObject(waiting) || textAt(waiting, 'reason') === 'PodInitializing') continue
    const why = [textAt(waiting, 'reason'), textAt(waiting, 'message')?.slice(0, MAX_WORDS)]
    return `container ${textAt(status, 'name') ?? ''} waits: ${why.filter(text => text !== undefined).join(': ')}`
  }
  const unplaced = listAt(pod, 'status', 'conditions')?.find(
    each => textAt(each, 'type') === 'PodScheduled' && textAt(each, 'status') === 'False',
  )
  if (unplaced !== undefined) {
    const why = [textAt(unplaced, 'reason'), textAt(unplaced, 'message')?.slice(0, MAX_WORDS)]
    return `its pod has no node: ${why.filter(text => text !== undefined).join(': ')}`
  }
  return `its pod is ${textAt(pod, 'status', 'phase') ?? 'in no phase'}`
}

/** The container whose log says why: the first that failed, else the first of all. */
export function containerToBlame(pod: JsonObject): string | undefined {
  const failed = containersOf(pod).find(status =>
    [at(status, 'state', 'terminated', 'exitCode'), at(status, 'lastState', 'terminated', 'exitCode')].some(
      code => typeof code === 'number' && code !== 0,
    ),
  )
  return textAt(failed, 'name') ?? textAt(listAt(pod, 'spec', 'containers')?.[0], 'name')
}

/** In the order in which they run. */
const containersOf = (pod: JsonObject): readonly unknown[] => [
  ...(listAt(pod, 'status', 'initContainerStatuses') ?? []),
  ...(listAt(pod, 'status', 'containerStatuses') ?? []),
]
