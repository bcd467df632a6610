import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { backoffMs } from '../../../shared/retry.ts'
import { readReturnEnd, writeReturnEnd } from '../../safety/return-end.ts'
import { startReturn } from '../../safety/return-unit.ts'
import { unitName } from '../../safety/switch-unit.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { claimReturned, claimUntouched, type ReturnClaim } from '../../safety/verdict.ts'
import { type PhaseFailure, STOPPED } from '../context.ts'
import { folderOf, wayBackOf } from './round.ts'
import { AGAIN, STOP, type StepContext, type StepEnd } from './step-context.ts'

const POLL_MS = 250
const MOST_PAUSE_MS = 30_000

/** Decides that the old system must come back, unless something was decided before. */
export async function claimReturn(context: StepContext, claim: ReturnClaim): Promise<void> {
  const verdict = await claimReturned(folderOf(context), claim)
  if (verdict.kind === 'returned') {
    const why = claim.by === 'agent' ? claim.reason : 'not confirmed in time'
    context.input.say(`goes back to what ran before: ${why}`)
  }
}

/**
 * Has the one way back walked, and waits for its end. At that end the agent is started anew, from the old system's file, so
 * what follows is most often seen by another process. INVARIANTS: only who walked it says that it failed: one that cannot be begun, or was
 * cut before its end, is begun again until it has one, and what is armed stays armed meanwhile.
 */
export async function awaitReturn(context: StepContext): Promise<StepEnd> {
  const { deps, phase } = context
  const { folder, arm } = await wayBackOf(context)
  const result = await phase(Phase.RETURN, async ({ signal, say }) => {
    const startedMs = performance.now()
    let starts = 0
    let nextStartMs = startedMs
    let last = ''
    for (;;) {
      const end = await readReturnEnd(folder)
      if (end && end.kind !== 'booting')
        return { kind: 'ok', value: undefined, detail: `${end.kind}: ${end.reason}` }
      const { bootId } = await readBootTime(deps.system)
      const boots = end?.bootId === bootId
      const limit = deps.config.bootDeadlineMs
      if (boots && performance.now() - startedMs > limit) {
        await writeReturnEnd(folder, {
          kind: 'failed',
          reason: `${end.reason}, but it did not boot anew within ${Math.round(limit / 1_000)} s`,
          exitCode: undefined,
        })
        continue
      }
      const state = await deps.units.state(unitName('return', folder))
      // One that waits for a boot which has come is walked on, whether or not the boot's own unit does so too.
      if (state.kind === 'gone' && !boots && performance.now() >= nextStartMs) {
        if (starts > 0 && last === '') say('the way back was cut before its end, and is begun again')
        nextStartMs = performance.now() + backoffMs(starts, retryOf(deps.config))
        starts += 1
        const problem = (await startReturn(deps.units, folder, arm, deps.stateDir)) ?? ''
        if (problem !== '' && problem !== last)
          say(`the way back could not be started, and is tried again until it can: ${problem}`)
        last = problem
      }
      if (!(await pause(POLL_MS, signal))) return STOPPED
    }
  })
  return result.kind === 'stopped' ? STOP : AGAIN
}

/** A machine that is to go back does not wait for long, and a busy service manager is not asked without a pause. */
function retryOf({ retry: { firstMs, mostMs } }: StepContext['deps']['config']) {
  return { firstMs, mostMs: Math.min(mostMs, MOST_PAUSE_MS) }
}

/** Ends a round in which nothing was touched: there is nothing to take back, and the dead man must not. */
export async function giveUpUntouched(context: StepContext, failure: PhaseFailure): Promise<StepEnd> {
  const { kind: _, ...why } = failure
  // When the dead man was faster, it has looked at the machine, and its word is waited for.
  await claimUntouched(folderOf(context), { ...why, exitCode: why.exitCode })
  return AGAIN
}
