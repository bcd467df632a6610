import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'

/** How an operation ends that the agent itself could not take further than a phase. Unknown only once the machine was touched. */
export function failureBefore(phase: Phase): { readonly class: OutcomeClass; readonly refusal: string } {
  switch (phase) {
    case Phase.FETCH:
      return { class: OutcomeClass.FETCH_FAILED, refusal: '' }
    case Phase.BUILD:
      return { class: OutcomeClass.BUILD_FAILED, refusal: '' }
    case Phase.VERIFY:
    case Phase.PREFLIGHT:
    case Phase.PLAN:
    case Phase.DRAIN:
    case Phase.ARM:
      return { class: OutcomeClass.REFUSED, refusal: 'agent-failed' }
    default:
      return { class: OutcomeClass.UNKNOWN, refusal: '' }
  }
}

/** Whether nothing of the machine was touched yet, so that the phase may be broken off and begun again. */
export function isBeforeActivation(phase: Phase): boolean {
  return failureBefore(phase).class !== OutcomeClass.UNKNOWN
}
