import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'

/** As much of an operation as it matters for going back to it. */
export interface PastOperation {
  readonly id: string
  readonly action: string
  readonly revision: number
  readonly outcomeClass: number
  readonly rollbackTo: string
  readonly rollbackBefore: boolean
}

/** Whether an operation left the node with the system it was ordered to. */
export function didChange({ action, outcomeClass }: Pick<PastOperation, 'action' | 'outcomeClass'>): boolean {
  const good = outcomeClass === OutcomeClass.SUCCEEDED || outcomeClass === OutcomeClass.DEGRADED
  return good && (action === 'apply' || action === 'rollback')
}

/** The newest change of a machine that succeeded, in a history that begins with the newest. */
export function newestChange(history: readonly PastOperation[]): PastOperation | undefined {
  return history.find(didChange)
}

/**
 * The revision whose system a rollback reaches, followed through rollbacks to other rollbacks. Undefined: the history does
 * not say; the node's own journal decides.
 */
export function reachedRevision(
  history: readonly PastOperation[],
  target: { readonly operation: string; readonly before: boolean },
): number | undefined {
  let { operation, before } = target
  // Each step leads to an older operation, so it ends; the bound is for a history that was tampered with.
  for (let step = 0; step <= history.length; step++) {
    const at = history.findIndex(({ id }) => id === operation)
    if (at === -1) return undefined
    const found = before ? history.slice(at + 1).find(didChange) : history[at]
    if (!found) return undefined
    if (found.action === 'apply') return found.revision > 0 ? found.revision : undefined
    if (found.action !== 'rollback') return undefined
    operation = found.rollbackTo
    before = found.rollbackBefore
  }
  return undefined
}
