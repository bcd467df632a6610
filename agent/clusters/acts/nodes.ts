import { msFromDuration } from '../../../shared/time.ts'
import { bareVersion } from '../../drivers/kubernetes/judge-ready.ts'
import { type ActContext, type ActEnd, doneWith, fromDriver } from './act.ts'

const LEAST_MS = 1_000

/** What is left of the limit that the order gives, counted from when it was begun here. */
export function limitOf(limit: Parameters<typeof msFromDuration>[0] | undefined, mostMs: number): number {
  const wanted = limit ? msFromDuration(limit) : mostMs
  return Math.min(Math.max(wanted, LEAST_MS), mostMs)
}

/** Keeps new pods away from a node, with our mark, and has the others leave. */
export async function drainNode(context: ActContext<'drain'>): Promise<ActEnd> {
  const { driver, order, options, action } = context
  const { node, deleteEmptyDir, deleteUnmanaged, cordonOnly } = action.value
  await context.begin()
  const cordoned = await driver.cluster.cordon(node, order.operationId, options.signal)
  if (cordoned.kind === 'failed') return fromDriver(cordoned)
  const whose = cordoned.value.ours ? 'cordoned by us' : 'was cordoned by somebody else, and stays so'
  if (cordonOnly) return doneWith(`node ${node} ${cordoned.value.ours ? `is ${whose}` : whose}`)
  const drained = await driver.cluster.drain(node, { deleteEmptyDir, deleteUnmanaged }, options)
  if (drained.kind === 'failed') return fromDriver(drained)
  return doneWith(
    `${drained.value.evicted} pods evicted; node ${node} ${cordoned.value.ours ? `is ${whose}` : whose}`,
  )
}

/** Lifts a cordon: that of one operation, or whichever is ours. */
export async function uncordonNode(context: ActContext<'uncordon'>): Promise<ActEnd> {
  const { driver, order, options, action } = context
  const { node, cordonedBy } = action.value
  await context.begin()
  let by = cordonedBy
  if (by === '') {
    const seen = await driver.cluster.readEvidence(node, options.signal)
    if (seen.kind === 'failed') return fromDriver(seen)
    by = seen.value.node.cordonedBy ?? order.operationId
  }
  const lifted = await driver.cluster.uncordon(node, by, options.signal)
  return lifted.kind === 'failed' ? fromDriver(lifted) : { kind: 'done' }
}

/** Waits until a node is Ready on evidence that is newer than the order; of whatever version where none is wanted. */
export async function proveNode(context: ActContext<'prove'>): Promise<ActEnd> {
  const { driver, options, action } = context
  const { node, version: wanted } = action.value
  await context.begin()
  let version = wanted
  if (version === '') {
    const seen = await driver.cluster.readEvidence(node, options.signal)
    if (seen.kind === 'failed') return fromDriver(seen)
    version = seen.value.node.kubeletVersion
  }
  const proof = { node, version, before: undefined, rebooted: false }
  const proved = await driver.cluster.proveNode(proof, options)
  return proved.kind === 'failed'
    ? fromDriver(proved)
    : doneWith(bareVersion(proved.value.node.kubeletVersion))
}
