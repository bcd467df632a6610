import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { Conclusion } from '../next-step.ts'
import { freshNodeMemory } from '../node-memory.ts'
import { whyExpired } from './may-begin.ts'
import type { StepContext, StepEnd } from './step-context.ts'

const MAX_REASON_CHARS = 256

/** What an order changes of the node's own mind: whether it obeys, and what it tries again. Idempotent. */
export async function act(context: StepContext): Promise<StepEnd> {
  const { deps, input, phase, state } = context
  const { action } = state.order
  const memory = input.nodeMemory()
  // One that another process began may have been done by it.
  const begun = state.phases.length > 0
  const done = await phase(Phase.VERIFY, async () => {
    // Its expiry alone: that a clock may be wrong is no reason not to hold.
    const problem = begun ? undefined : whyExpired(context)
    if (problem) return problem
    switch (action.case) {
      case 'hold': {
        const reason = action.value.reason.slice(0, MAX_REASON_CHARS)
        await input.remember({ ...memory, held: { reason, since: deps.clock.now() } })
        return ok(`obeys nothing but resume, retry and plan from now on: ${reason || 'no reason given'}`)
      }
      case 'resume':
        await input.remember({ ...memory, held: undefined })
        return ok(memory.held ? 'obeys again' : 'obeyed already')
      case 'retry': {
        await input.remember({ ...memory, quarantined: freshNodeMemory.quarantined })
        const count = memory.quarantined.length
        return ok(count === 0 ? 'nothing was in quarantine' : `${count} systems may be tried again`)
      }
      case 'apply':
      case 'rollback':
      case 'reboot':
      case 'restart':
      case 'upgrade':
      case undefined:
        throw new Error(`an order to ${action.case ?? 'apply'} is no change of mind`)
    }
  })
  if (done.kind === 'stopped') return done
  const conclusion: Conclusion =
    done.kind === 'ok'
      ? { class: OutcomeClass.SUCCEEDED, refusal: '', reason: done.detail, phase: Phase.DONE, storePath: '' }
      : { class: done.class, refusal: done.refusal, reason: done.reason, phase: Phase.VERIFY, storePath: '' }
  return { kind: 'conclude', conclusion }
}

const ok = (detail: string) => ({ kind: 'ok', value: undefined, detail }) as const
