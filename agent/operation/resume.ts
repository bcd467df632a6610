import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { failureBefore } from './failure-before.ts'
import type { OperationState } from './fold.ts'

/** What to do with an operation that the journal holds when the agent starts. */
export type Resume =
  | { readonly kind: 'finished' }
  /** From the first phase: nothing of the machine was touched, and every phase before activation can be repeated. */
  | { readonly kind: 'run' }
  | {
      readonly kind: 'conclude'
      readonly class: OutcomeClass
      /** Class of a refusal; empty for anything else. */
      readonly refusal: string
      readonly phase: Phase
      readonly reason: string
    }

/** An operation that was begun so often and never came to its end is given up. */
export const MAX_ATTEMPTS = 5

/** Decides from the journal alone. A switch that was cut is unknown, never success, and never repeated by itself. */
export function resumeOperation(state: OperationState): Resume {
  if (state.outcome) return { kind: 'finished' }
  const touched = state.phases.findLast(({ phase }) => phase === Phase.ACTIVATE)
  if (touched) {
    const where = state.storePath || 'the new system'
    return {
      kind: 'conclude',
      class: OutcomeClass.UNKNOWN,
      refusal: '',
      phase: Phase.ACTIVATE,
      reason: touched.ended
        ? `the agent ended after the switch to ${where}, before its outcome was written; look at /run/current-system`
        : `the agent ended in the middle of the switch to ${where}; look at /run/current-system`,
    }
  }
  if (state.attempts >= MAX_ATTEMPTS) {
    const phase = state.running ?? state.phases.at(-1)?.phase ?? Phase.VERIFY
    return {
      kind: 'conclude',
      class: failureBefore(phase).class,
      refusal: failureBefore(phase).refusal,
      phase,
      reason: `begun ${state.attempts} times and cut off each time; nothing was activated`,
    }
  }
  return { kind: 'run' }
}
