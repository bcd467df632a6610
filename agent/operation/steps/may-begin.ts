import { pause } from '../../../shared/lifecycle.ts'
import { MAX_SKEW_MS } from '../../../shared/revision/judge-revision.ts'
import { agentTime, latest } from '../agent-time.ts'
import { type PhaseFailure, refused } from '../context.ts'
import { expiryProblem } from '../expiry-problem.ts'
import { actionOf } from '../fold.ts'
import type { StepContext } from './step-context.ts'

const SMALL_SKEW_MS = 30_000

/** Why an order to change the machine is not begun; asked of every kind, each time before anything was touched. */
export async function beginProblem(context: StepContext): Promise<PhaseFailure | undefined> {
  // The clock first: by it is told whether the order has expired.
  return (await clockProblem(context)) ?? whyExpired(context) ?? heldProblem(context)
}

export function whyExpired({ deps, input, state }: StepContext): PhaseFailure | undefined {
  return expiryProblem(state.order, agentTime(deps, input.states().values()))
}

/**
 * A clock that stands before what this node has already written down, or before this program was built, was not set since the
 * machine started.
 */
async function clockProblem({ deps, input, state }: StepContext): Promise<PhaseFailure | undefined> {
  const written = [...input.states().values()].flatMap(other =>
    other.order.operationId === state.order.operationId ? [] : [other.endedAt ?? other.acceptedAt],
  )
  const built = deps.built ?? new Date(0)
  const past = latest(built, ...written)
  const where = past > built ? 'in this node’s journal' : 'when this agent was built'
  const startedMs = performance.now()
  for (;;) {
    const skew = deps.skewMs()
    // The coordinator shows the same time: what is ahead of it was written by a clock that was wrong.
    if (skew !== undefined && Math.abs(skew) <= SMALL_SKEW_MS) return undefined
    const now = deps.clock.now()
    // Before anything is judged by this clock, such as whether the order has expired.
    if (now >= past) return skewProblem(skew)
    if (performance.now() - startedMs > deps.config.clockWaitMs || !(await pause(500, input.signal))) {
      return refused(
        'clock',
        `the clock says ${now.toISOString()}, which is before ${past.toISOString()} ${where}: it is not set`,
      )
    }
  }
}

function skewProblem(skew: number | undefined): PhaseFailure | undefined {
  if (skew === undefined || Math.abs(skew) <= MAX_SKEW_MS) return undefined
  return refused(
    'clock',
    `the clock is ${Math.round(Math.abs(skew) / 1_000)} s ${skew > 0 ? 'ahead of' : 'behind'} the coordinator's, more than ${MAX_SKEW_MS / 60_000} minutes: set it, then order again`,
  )
}

export function heldProblem({ input, state }: StepContext): PhaseFailure | undefined {
  const { held } = input.nodeMemory()
  if (!held || actionOf(state.order) === 'plan') return undefined
  return refused(
    'held',
    `this node obeys nothing: ${held.reason || 'held'}; \`muster resume\` lets it obey again`,
  )
}
