import { pause } from '../../../shared/lifecycle.ts'
import { AGAIN, STOP, type StepContext, type StepEnd } from './step-context.ts'

/** How long an agent that asked for its own restart waits for it before it asks again. */
const RESTART_MS = 60_000

/**
 * Has the agent started anew from the file that counts now: only another process, over a connection of its own, can show
 * that the new system lets an agent start and reach its coordinator.
 */
export async function restartAgent({ deps, record, seen, input }: StepContext): Promise<StepEnd> {
  input.say('the agent starts anew')
  await record({ kind: 'restart', instance: seen.instance })
  const asked = await deps.units.restartAgent()
  if (asked.kind === 'failed') input.say(`the agent could not be restarted: ${asked.reason}`)
  // Where nothing is restarted (a simulated machine), this process has become another instance by now.
  if (deps.instance() !== seen.instance) return AGAIN
  return (await pause(RESTART_MS, input.signal)) ? AGAIN : STOP
}
