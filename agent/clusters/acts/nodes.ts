import { msFromDuration } from '../../../shared/time.ts'
import { type ActContext, type ActEnd, doneWith, fromDriver } from './act.ts'

const LEAST_MS = 1_000

/** What is left of the limit that the order gives, counted from when it was begun here. */
export function limitOf(limit: Parameters<typeof msFromDuration>[0] | undefined, mostMs: number): number {
  const wanted = limit ? msFromDuration(limit) : mostMs
  return Math.min(Math.max(wanted, LEAST_MS), mostMs)
}

/**
 * Keeps new pods away from a node, with our mark, and has the others leave. However it ends it says whose cordon the node was left with:
 * only who set one may lift it.
 */
export async function drainNode(context: ActContext<'drain'>): Promise<ActEnd> {
  const { driver, order, options, action } = context
  const { node, deleteEmptyDir, deleteUnmanaged, cordonOnly, takesOver } = action.value
  await context.begin()
  const cordoned = await driver.cluster.cordon(node, order.operationId, takesOver, options.signal)
  if (cordoned.kind === 'failed') return fromDriver(cordoned)
  const { by } = cordoned.value
  const cordonedBy = by ?? ''
  const whose = `node ${node} ${describeCordon(by, order.operationId)}`
  if (cordonOnly) return { ...doneWith(whose), cordonedBy }
  const drained = await driver.cluster.drain(node, { deleteEmptyDir, deleteUnmanaged }, options)
  if (drained.kind === 'failed') return { ...fromDriver(drained), cordonedBy }
  return { ...doneWith(`${drained.value.evicted} pods evicted; ${whose}`), cordonedBy }
}

function describeCordon(by: string | undefined, operation: string): string {
  if (by === operation) return 'is cordoned by us'
  return `was cordoned by ${by === undefined ? 'somebody else' : `operation ${by}`}, and stays so`
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
  if (lifted.kind === 'done') return { kind: 'done', cordonedBy: '' }
  if (lifted.class !== 'not-ours') return fromDriver(lifted)
  const left = await driver.cluster.readEvidence(node, options.signal)
  const whose = left.kind === 'done' ? (left.value.node.cordonedBy ?? '') : undefined
  return { ...fromDriver(lifted), cordonedBy: whose }
}
