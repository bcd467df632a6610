import { randomBytes } from 'node:crypto'
import { escapeText } from '../../../shared/escape.ts'
import { pause, withDeadline } from '../../../shared/lifecycle.ts'
import { isObject, type JsonObject, listAt, textAt } from '../../../shared/read-value.ts'
import type { JobGate } from '../../../shared/revision/clusters.ts'
import type { Finding } from '../../gates/gate-answer.ts'
import { redact } from '../redact.ts'
import { DONE } from '../result.ts'
import {
  containerToBlame,
  GATE_LABEL,
  type GateRun,
  gateRun,
  hasMadeNoPod,
  judgeJob,
  newestPod,
  whatPodWaitsFor,
} from './gate-job.ts'
import { isNotFound, type Kubectl, type KubeResult } from './kubectl.ts'

export interface GateJobOptions {
  readonly signal?: AbortSignal | undefined
  /** Between two looks. Absent: 1 s. */
  readonly everyMs?: number | undefined
}

const LOOK_EVERY_MS = 1_000
/** Looks in a row that the API server did not answer. */
const MAX_MISSES = 5
/** Kubernetes takes the pods of a Job away when its time is over: what they wait for is looked for a little before. */
const LAST_LOOKS_MS = 5_000
/** Whoever stops the agent waits for it. */
const TIDY_MS = 10_000
const MAX_LEFTOVERS = 500
const MAX_REASON_CHARS = 500
const MAX_LINE_CHARS = 200

/**
 * Runs a gate's Job once, and answers what it came to. Only a Job that failed, or did not complete in time, says something
 * of what it asks for; whatever else goes wrong is unavailable. However it ends, the Job is taken away: what cannot be, ends
 * by its own deadline and goes by itself.
 */
export async function runGateJob(
  kubectl: Kubectl,
  gate: Pick<JobGate, 'name' | 'deadlineMs'>,
  job: JsonObject,
  options: GateJobOptions = {},
): Promise<Finding> {
  const { verdict, reason } = await find(kubectl, gate, job, options)
  return { verdict, reason: escapeText(reason).slice(0, MAX_REASON_CHARS) }
}

async function find(
  kubectl: Kubectl,
  gate: Pick<JobGate, 'name' | 'deadlineMs'>,
  job: JsonObject,
  options: GateJobOptions,
): Promise<Finding> {
  const { signal } = options
  const cleared = await clearLeftovers(kubectl, gate.name, signal)
  if (signal?.aborted) return CANCELLED
  if (cleared.kind === 'failed')
    return unavailable(`what an earlier asking may have left could not be cleared away: ${cleared.reason}`)
  const run = gateRun(job, gate, randomBytes(4).toString('hex'))
  const folder = jobsPath(run.namespace)
  try {
    // Not by the signal: of a creation that is broken off nobody knows whether it comes after the deletion.
    const created = await kubectl.create(folder, run.object)
    if (created.kind === 'failed') return unavailable(`${run.shown} could not be made: ${created.reason}`)
    return await watch(kubectl, run, textAt(created.value, 'metadata', 'uid'), options)
  } finally {
    const path = `${folder}/${run.name}`
    await withDeadline(TIDY_MS, undefined, async inner => await kubectl.remove(path, undefined, inner)).catch(
      () => {}, // it ends by its own deadline, and goes by itself after that
    )
  }
}

/** What agents that were killed left of the same gate: it would go on beside the new one, and answer nobody. */
async function clearLeftovers(
  kubectl: Kubectl,
  gate: string,
  signal: AbortSignal | undefined,
): Promise<KubeResult<void>> {
  const listed = await kubectl.list(
    `/apis/batch/v1/jobs?labelSelector=${encodeURIComponent(`${GATE_LABEL}=${gate}`)}`,
    MAX_LEFTOVERS,
    signal,
  )
  if (listed.kind === 'failed') return listed
  for (const { metadata } of listed.value) {
    const [namespace, name, uid] = ['namespace', 'name', 'uid'].map(key => textAt(metadata, key))
    if (namespace === undefined || name === undefined || uid === undefined) continue
    if (textAt(metadata, 'deletionTimestamp') !== undefined) continue
    const removed = await kubectl.remove(`${jobsPath(namespace)}/${encodeURIComponent(name)}`, uid, signal)
    if (removed.kind === 'done' || isNotFound(removed)) continue
    // Another one has its name since then.
    if ('status' in removed && removed.status === 'Conflict') continue
    return removed
  }
  return DONE
}

/** Looks at it until it is over, or its time is. */
async function watch(
  kubectl: Kubectl,
  run: GateRun,
  uid: string | undefined,
  { signal, everyMs = LOOK_EVERY_MS }: GateJobOptions,
): Promise<Finding> {
  const until = performance.now() + run.limitMs
  let misses = 0
  let waitsFor: string | undefined
  for (;;) {
    await pause(Math.max(0, Math.min(everyMs, until - performance.now())), signal)
    const leftMs = until - performance.now()
    const live = await kubectl.get(`${jobsPath(run.namespace)}/${run.name}`, signal)
    if (signal?.aborted) return CANCELLED
    if (isNotFound(live)) return takenAway(run)
    if (live.kind === 'failed') {
      misses += 1
      if (leftMs <= 0 || misses >= MAX_MISSES)
        return unavailable(`${run.shown} could not be looked at: ${live.reason}`)
      continue
    }
    misses = 0
    if (uid !== undefined && textAt(live.value, 'metadata', 'uid') !== uid) return takenAway(run)
    const standing = judgeJob(live.value)
    switch (standing.kind) {
      case 'completed':
        return { verdict: 'healthy', reason: `${run.shown} completed` }
      case 'failed':
        return unhealthy(`${run.shown} failed: ${standing.reason}${await lastWords(kubectl, run, signal)}`)
      case 'going':
        return takenAway(run)
      case 'late':
      case 'running':
        if (leftMs <= LAST_LOOKS_MS) {
          const isBare = standing.kind === 'running' && hasMadeNoPod(live.value)
          waitsFor = (await readWaiting(kubectl, run, isBare, signal)) ?? waitsFor
        }
        if (standing.kind === 'late' || leftMs <= 0) {
          const why = waitsFor === undefined ? '' : `: ${waitsFor}`
          return unhealthy(`${run.shown} did not complete within ${run.limitMs / 1000} s${why}`)
        }
    }
  }
}

/** `isBare`: it has made no pod. undefined: that cannot be seen. */
async function readWaiting(
  kubectl: Kubectl,
  run: GateRun,
  isBare: boolean,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const pods = await readPods(kubectl, run, signal)
  if (!pods) return undefined
  // One that is being taken away shows what that makes of it: its containers wait for their creation again.
  const pod = newestPod(pods.filter(each => textAt(each, 'metadata', 'deletionTimestamp') === undefined))
  if (pod) return whatPodWaitsFor(pod)
  return isBare && pods.length === 0 ? 'no pod of it was made' : undefined
}

/** The end of what its newest pod logged, to be put behind a reason; "": nothing can be had. */
async function lastWords(kubectl: Kubectl, run: GateRun, signal: AbortSignal | undefined): Promise<string> {
  const pod = newestPod((await readPods(kubectl, run, signal)) ?? [])
  const name = textAt(pod, 'metadata', 'name')
  if (!pod || name === undefined) return ''
  const container = containerToBlame(pod)
  const query = `tailLines=1&limitBytes=2048${container === undefined ? '' : `&container=${encodeURIComponent(container)}`}`
  const log = await kubectl.getText(
    `${podsPath(run.namespace)}/${encodeURIComponent(name)}/log?${query}`,
    signal,
  )
  if (log.kind === 'failed') return ''
  const line = redact(log.value).slice(0, MAX_LINE_CHARS)
  return line === '' ? '' : `; its log ends with: ${line}`
}

async function readPods(
  kubectl: Kubectl,
  { namespace, name }: GateRun,
  signal: AbortSignal | undefined,
): Promise<readonly JsonObject[] | undefined> {
  const selector = encodeURIComponent(`job-name=${name}`)
  const listed = await kubectl.get(`${podsPath(namespace)}?labelSelector=${selector}&limit=50`, signal)
  return listed.kind === 'failed' ? undefined : listAt(listed.value, 'items')?.filter(isObject)
}

const jobsPath = (namespace: string): string =>
  `/apis/batch/v1/namespaces/${encodeURIComponent(namespace)}/jobs`
const podsPath = (namespace: string): string => `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`

const unhealthy = (reason: string): Finding => ({ verdict: 'unhealthy', reason })
const unavailable = (reason: string): Finding => ({ verdict: 'unavailable', reason })
const CANCELLED = unavailable('it was no longer asked for')
const takenAway = (run: GateRun): Finding =>
  unavailable(`${run.shown} was taken away by somebody before it was over`)
