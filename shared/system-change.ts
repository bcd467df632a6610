import { OutcomeClass, Phase } from './gen/muster/v1/operation_pb.ts'

/** How an operation ended, as far as it tells what it did to the system of its machine. */
export interface OperationEnd {
  /** The word for what was ordered. */
  readonly action: string
  readonly outcomeClass: number
  /** The phase that ended it, or the last one that it came to; 0: not known. */
  readonly phase: number
}

/** `unknown`: it may have, and the machine's own journal knows what ran before it. */
export type SystemChange = 'made' | 'none' | 'unknown'

/**
 * Whether an operation made a machine run another system for good: one that was proved, confirmed and made the boot default.
 * The node and the coordinator go back before the same operation, so this is the one place that says which counts.
 */
export function systemChange({ action, outcomeClass, phase }: OperationEnd): SystemChange {
  if (action !== 'apply' && action !== 'rollback') return 'none'
  switch (outcomeClass) {
    case OutcomeClass.SUCCEEDED:
    case OutcomeClass.DEGRADED:
      if (phase === Phase.UNSPECIFIED) return 'unknown'
      // What ran already ended with the plan.
      return phase > Phase.ARM ? 'made' : 'none'
    case OutcomeClass.ACTIVATION_FAILED:
      // Its Kubernetes is started only in a system that was confirmed, and nothing goes back from there.
      return phase === Phase.KUBERNETES ? 'made' : 'none'
    case OutcomeClass.ROLLBACK_FAILED:
    case OutcomeClass.UNKNOWN:
      return 'unknown'
    default:
      return 'none'
  }
}

/** Whether the machine ran what was ordered when the operation was over, moved there by it or found there. */
export function reachedSystem(end: OperationEnd): boolean {
  const { action, outcomeClass } = end
  if (action !== 'apply' && action !== 'rollback') return false
  const good = outcomeClass === OutcomeClass.SUCCEEDED || outcomeClass === OutcomeClass.DEGRADED
  return good || systemChange(end) === 'made'
}
