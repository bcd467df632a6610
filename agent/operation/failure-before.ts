import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'

/** Phases that only look: a machine at which they failed would not take the order. */
const LOOKING: readonly Phase[] = [Phase.VERIFY, Phase.PREFLIGHT, Phase.PLAN, Phase.DRAIN, Phase.ARM]

/** How an operation ends that the agent itself could not take further than a phase. Unknown only once the machine was touched. */
export function failureBefore(phase: Phase): { readonly class: OutcomeClass; readonly refusal: string } {
  if (LOOKING.includes(phase)) return { class: OutcomeClass.REFUSED, refusal: 'agent-failed' }
  if (phase === Phase.FETCH) return { class: OutcomeClass.FETCH_FAILED, refusal: '' }
  if (phase === Phase.BUILD) return { class: OutcomeClass.BUILD_FAILED, refusal: '' }
  return { class: OutcomeClass.UNKNOWN, refusal: '' }
}

/** Whether nothing of the machine was touched yet, so that the phase may be broken off and begun again. */
export function isBeforeActivation(phase: Phase): boolean {
  return failureBefore(phase).class !== OutcomeClass.UNKNOWN
}
