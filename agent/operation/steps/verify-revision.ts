import type { Target } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { MAX_SKEW_MS } from '../../../shared/revision/judge-revision.ts'
import type { KnownManifest } from '../../../shared/revision/read-manifest.ts'
import { type PhaseFailure, type PhaseResult, refused } from '../context.ts'
import { actionOf, provenTime } from '../fold.ts'
import { type Verified, verify } from '../phases/verify.ts'
import type { StepContext, StepEnd } from './step-context.ts'

const SMALL_SKEW_MS = 30_000

/** The first phase of what a revision brings: nothing is done by a manifest that is not good. */
export async function verifyRevision(
  context: StepContext,
  part: 'system' | 'kubernetes',
): Promise<PhaseResult<Verified>> {
  const { deps, input, phase } = context
  const earlier = [...input.states().values()]
  return await phase(Phase.VERIFY, async inner => {
    const problem = (await clockProblem(context)) ?? heldProblem(context)
    if (problem) return problem
    const proven = provenTime(earlier)
    const now = () => latest(deps.clock.now(), proven)
    return await verify(inner, {
      order: input.order,
      assignment: input.assignment,
      now,
      remembered: input.remembered,
      part,
    })
  })
}

/** A clock that stands before what this node has already written down was not set since the machine started. */
export async function clockProblem({ deps, input, state }: StepContext): Promise<PhaseFailure | undefined> {
  const past = Math.max(
    0,
    ...[...input.states().values()].flatMap(other =>
      other.order.operationId === state.order.operationId
        ? []
        : [(other.endedAt ?? other.acceptedAt).getTime()],
    ),
  )
  const startedMs = performance.now()
  for (;;) {
    const skew = deps.skewMs()
    // The coordinator shows the same time: what is ahead of it was written by a clock that was wrong.
    if (skew !== undefined && Math.abs(skew) <= SMALL_SKEW_MS) return undefined
    const now = deps.clock.now()
    // Before anything is judged by this clock, such as whether the order has expired.
    if (now.getTime() >= past) return skewProblem(skew)
    if (performance.now() - startedMs > deps.config.clockWaitMs || !(await pause(500, input.signal))) {
      return refused(
        'clock',
        `the clock says ${now.toISOString()}, which is before ${new Date(past).toISOString()} in this node's journal: it is not set`,
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

export function end(phase: Phase, failure: PhaseFailure, storePath = ''): StepEnd {
  const { kind: _, ...rest } = failure
  return { kind: 'conclude', conclusion: { ...rest, phase, storePath } }
}

export function digestOf(manifest: KnownManifest, target: Target): string {
  return (target.group === '' ? manifest.hosts.get(target.host) : manifest.groups.get(target.group)) ?? ''
}

function latest(a: Date, b: Date | undefined): Date {
  return b && b > a ? b : a
}
