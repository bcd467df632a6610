import { DONE, done, failed, type Result } from '../result.ts'
import { isNotFound, type Kubectl } from './kubectl.ts'
import { CORDON_MARK, type NodeReading, nodePath, readNode } from './node-reading.ts'

export type CordonStep =
  /** Set it, with our mark. */
  | { readonly kind: 'set' }
  /** It is ours already. */
  | { readonly kind: 'ours' }
  /** Somebody else keeps pods away from the node, or another operation; that stays theirs, and stays. */
  | { readonly kind: 'others' }

/** What cordoning a node for an operation means as it is. `takesOver`: the operation whose cordon becomes this one's. */
export function judgeCordon(node: NodeReading, operation: string, takesOver = ''): CordonStep {
  const { unschedulable, cordonedBy } = node
  if (!unschedulable) return { kind: 'set' }
  if (cordonedBy === undefined) return { kind: 'others' }
  if (cordonedBy === operation) return { kind: 'ours' }
  return cordonedBy === takesOver ? { kind: 'set' } : { kind: 'others' }
}

export type UncordonStep =
  | { readonly kind: 'lift' }
  /** Nobody keeps pods away; a mark that was left is taken off. */
  | { readonly kind: 'open'; readonly marked: boolean }
  | { readonly kind: 'refuse'; readonly reason: string }

/** Whether an operation may lift the cordon: only what it set itself. */
export function judgeUncordon(node: NodeReading, operation: string): UncordonStep {
  const { unschedulable, cordonedBy } = node
  if (!unschedulable) return { kind: 'open', marked: cordonedBy === operation }
  if (cordonedBy === operation) return { kind: 'lift' }
  const whose = cordonedBy === undefined ? 'by somebody else' : `by operation ${cordonedBy}`
  return {
    kind: 'refuse',
    reason: `node ${node.name} was cordoned ${whose}, not by ${operation}: its cordon stays`,
  }
}

/** A change that meets another one is tried so often. */
const ATTEMPTS = 5

/** Whose cordon a node has: an operation of ours; undefined: somebody cordoned it without us. */
export interface Cordoned {
  readonly by: string | undefined
}

/** Keeps new pods away from a node. Answers whose the cordon is, where it stays another's. */
export async function cordonNode(
  kubectl: Kubectl,
  name: string,
  operation: string,
  takesOver = '',
  signal?: AbortSignal,
): Promise<Result<Cordoned>> {
  return await changeNode(kubectl, name, signal, node => {
    const step = judgeCordon(node, operation, takesOver)
    if (step.kind !== 'set') return { answer: done({ by: node.cordonedBy }) }
    const patch = { metadata: { annotations: { [CORDON_MARK]: operation } }, spec: { unschedulable: true } }
    return { patch, answer: done({ by: operation }) }
  })
}

/** Lets pods onto a node again, when the cordon is the operation's own. */
export async function uncordonNode(
  kubectl: Kubectl,
  name: string,
  operation: string,
  signal?: AbortSignal,
): Promise<Result<void>> {
  return await changeNode(kubectl, name, signal, node => {
    const step = judgeUncordon(node, operation)
    if (step.kind === 'refuse') return { answer: failed('not-ours', step.reason) }
    if (step.kind === 'open' && !step.marked) return { answer: DONE }
    // null takes a field away in a merge patch.
    const patch = {
      metadata: { annotations: { [CORDON_MARK]: null } },
      ...(step.kind === 'lift' ? { spec: { unschedulable: null } } : {}),
    }
    return { patch, answer: DONE }
  })
}

interface Change<T> {
  readonly patch?: { readonly metadata: Readonly<Record<string, unknown>> }
  readonly answer: Result<T>
}

/** Reads the node, decides, and changes it only as it was read. */
async function changeNode<T>(
  kubectl: Kubectl,
  name: string,
  signal: AbortSignal | undefined,
  decide: (node: NodeReading) => Change<T>,
): Promise<Result<T>> {
  for (let attempt = 1; ; attempt += 1) {
    const object = await kubectl.get(nodePath(name), signal)
    if (isNotFound(object)) return failed('not-found', `no node ${name} in the cluster`)
    if (object.kind === 'failed') return object
    const node = readNode(object.value)
    if (!node) return failed('unreadable', `node ${name}: the API server's answer is no Node`)
    const { patch, answer } = decide(node)
    if (!patch) return answer
    const metadata = { ...patch.metadata, resourceVersion: node.resourceVersion }
    const changed = await kubectl.patchNode(name, { ...patch, metadata }, signal)
    if (changed.kind === 'done') return answer
    const conflict = 'status' in changed && changed.status === 'Conflict'
    if (!conflict || attempt === ATTEMPTS) return changed
  }
}
