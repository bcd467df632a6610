import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import type { GateAnswer } from '../../gates/gate-answer.ts'
import { askGatesOf } from '../ask-gates.ts'
import type { Conclusion } from '../next-step.ts'
import type { StepContext } from './step-context.ts'

/** What was switched back to starts its units anew: a gate has so long to be healthy before it is told that it is not. */
const SETTLE_MS = 15_000
const LOOK_EVERY_MS = 2_000
const MOST_NAMED = 5
const BACK: readonly OutcomeClass[] = [OutcomeClass.ROLLED_BACK, OutcomeClass.UNCONFIRMED]

/**
 * Adds to an operation that went back what the gates say of the system that runs again. Nothing hangs on it, for there is nowhere else to
 * go; whoever reads the outcome must know.
 */
export async function withGatesOfReturn(context: StepContext, conclusion: Conclusion): Promise<Conclusion> {
  const { deps, input, seen } = context
  const runs = seen.current
  if (conclusion.phase !== Phase.RETURN || !BACK.includes(conclusion.class) || runs === undefined)
    return conclusion
  const untilMs = performance.now() + SETTLE_MS
  for (;;) {
    const answers = await askGatesOf(deps, input.states(), runs, input.signal)
    const unwell = answers.filter(({ verdict }) => verdict !== 'healthy')
    if (unwell.length > 0 && performance.now() < untilMs && (await pause(LOOK_EVERY_MS, input.signal)))
      continue
    if (answers.length === 0) return conclusion
    const word = unwell.length === 0 ? 'all its gates are healthy' : `its gates: ${listed(unwell)}`
    input.say(`${runs} runs again; ${word}`)
    return { ...conclusion, reason: `${conclusion.reason}; ${word}` }
  }
}

function listed(unwell: readonly GateAnswer[]): string {
  const named = unwell
    .slice(0, MOST_NAMED)
    .map(({ gate, verdict, reason }) => `${gate} ${verdict} (${reason})`)
  const more = unwell.length - named.length
  return `${named.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
