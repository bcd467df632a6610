import { type OperationEnd, reachedSystem, systemChange } from '../../shared/system-change.ts'

/** As much of an operation as it matters for going back to it. */
export interface PastOperation extends OperationEnd {
  readonly id: string
  readonly revision: number
  readonly rollbackTo: string
  readonly rollbackBefore: boolean
}

/**
 * The newest operation that changed the system of a machine, or may have, in a history that begins with the newest. What
 * ran before it is what the machine's own journal says.
 */
export function newestChange(history: readonly PastOperation[]): PastOperation | undefined {
  return history.find(operation => systemChange(operation) !== 'none')
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
    const found = before ? ranBefore(history, at) : history[at]
    if (!found) return undefined
    if (found.action === 'apply') return found.revision > 0 ? found.revision : undefined
    if (found.action !== 'rollback') return undefined
    operation = found.rollbackTo
    before = found.rollbackBefore
  }
  return undefined
}

/**
 * The operation whose system ran when another began: the newest one before it that reached one, if none in between may have
 * changed that.
 */
function ranBefore(history: readonly PastOperation[], at: number): PastOperation | undefined {
  const found = history
    .slice(at + 1)
    .find(operation => reachedSystem(operation) || systemChange(operation) === 'unknown')
  return found && reachedSystem(found) ? found : undefined
}
