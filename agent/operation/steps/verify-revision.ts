import type { Target } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { KnownManifest } from '../../../shared/revision/read-manifest.ts'
import { agentTime } from '../agent-time.ts'
import type { PhaseFailure, PhaseResult } from '../context.ts'
import { type Verified, verify } from '../phases/verify.ts'
import { beginProblem } from './may-begin.ts'
import type { StepContext, StepEnd } from './step-context.ts'

/** The first phase of what a revision brings: nothing is done by a manifest that is not good. */
export async function verifyRevision(
  context: StepContext,
  part: 'system' | 'kubernetes',
): Promise<PhaseResult<Verified>> {
  const { deps, input, phase } = context
  const earlier = [...input.states().values()]
  return await phase(Phase.VERIFY, async inner => {
    const problem = await beginProblem(context)
    if (problem) return problem
    const now = () => agentTime(deps, earlier)
    return await verify(inner, {
      order: input.order,
      assignment: input.assignment,
      now,
      remembered: input.remembered,
      part,
    })
  })
}

export function end(phase: Phase, failure: PhaseFailure, storePath = ''): StepEnd {
  const { kind: _, ...rest } = failure
  return { kind: 'conclude', conclusion: { ...rest, phase, storePath } }
}

export function digestOf(manifest: KnownManifest, target: Target): string {
  return (target.group === '' ? manifest.hosts.get(target.host) : manifest.groups.get(target.group)) ?? ''
}
