import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'

/** As much of an operation as it matters for trying it again. */
export interface TriedOperation {
  readonly id: string
  readonly action: string
  readonly outcomeClass: number
  /** The operation that it tried again; empty: it was ordered by somebody. */
  readonly retryOf: string
}

export type Retry =
  | { readonly kind: 'none'; readonly reason: string }
  /** `attempt` counts from 1. */
  | { readonly kind: 'again'; readonly notBefore: number; readonly attempt: number }

/** How long the coordinator waits before each further try, in milliseconds. */
const DELAYS: Readonly<Partial<Record<OutcomeClass, readonly number[]>>> = {
  // The coordinator did not answer: it was away, or the node's way to it was.
  [OutcomeClass.UNCONFIRMED]: [60_000, 5 * 60_000, 15 * 60_000],
  // Somebody else's switch was running.
  [OutcomeClass.BUSY]: [30_000, 2 * 60_000, 10 * 60_000],
}
export const MOST_RETRIES = 3

/** What an operator may order without meaning another system than the one before. */
const ASIDE: readonly string[] = ['plan', 'resume', 'retry']

/**
 * Whether an order that ended without anything being wrong with its target is given again: an apply that the coordinator
 * did not confirm or that met another switch, while it is still the last thing ordered. `history` is the machine's
 * operations, newest first; `ended` is one of them.
 */
export function retryUnconfirmed(history: readonly TriedOperation[], ended: string, now: number): Retry {
  const none = (reason: string): Retry => ({ kind: 'none', reason })
  const at = history.findIndex(({ id }) => id === ended)
  const operation = history[at]
  if (!operation) return none('the operation is not in the history')
  if (operation.action !== 'apply') return none('only an apply is tried again')
  const delays = Object.entries(DELAYS).find(([kind]) => Number(kind) === operation.outcomeClass)?.[1]
  if (!delays) return none('its outcome stands')
  const since = history.slice(0, at).find(({ action }) => !ASIDE.includes(action))
  if (since) return none(`operation ${since.id} was ordered since`)
  const tries = triesBefore(history, operation)
  const delay = delays[tries]
  if (delay === undefined) return none(`it was tried again ${tries} times`)
  return { kind: 'again', notBefore: now + delay, attempt: tries + 1 }
}

/** How many retries led to this operation, itself included. */
function triesBefore(history: readonly TriedOperation[], operation: TriedOperation): number {
  let tries = 0
  let current: TriedOperation | undefined = operation
  while (current && current.retryOf !== '' && tries < MOST_RETRIES) {
    tries += 1
    const before: string = current.retryOf
    current = history.find(({ id }) => id === before)
  }
  return tries
}
