import { join } from 'node:path'
import { reasonOf } from '../../../shared/errors.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { readArmRecord } from '../../safety/arm-record.ts'
import { leftUntil } from '../../safety/deadline.ts'
import { armFolder } from '../../safety/operation-folder.ts'
import { setTrial } from '../../safety/trial-boot.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { currentSystem, PROFILE } from '../../system/system-links.ts'
import {
  failed,
  type PhaseContext,
  type PhaseFailure,
  type PhaseResult,
  refused,
  STOPPED,
} from '../context.ts'
import { beginProblem, heldProblem } from './may-begin.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { claimReturn, giveUpUntouched } from './take-back.ts'
import { untilSpared } from './until-spared.ts'

/**
 * Has the machine boot anew: for its own sake, or into the new system. What comes after is seen by the next boot; here it
 * is only waited for, and a boot that does not come is a failure.
 */
export async function reboot(context: StepContext): Promise<StepEnd> {
  const { state, phase } = context
  let untouched = false
  const result = await phase(Phase.REBOOT, async inner => {
    if (!state.round) return await bootPlainly(context, inner)
    const missed = await whyMissed(context, inner, patienceOfRound(context))
    // An earlier process, cut off in this phase, may have prepared the boot.
    untouched = missed?.kind === 'failed' && state.running !== Phase.REBOOT
    return missed ?? (await bootRound(context, inner))
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'ok') return AGAIN // a simulated machine has booted meanwhile
  if (state.round && untouched) return await giveUpUntouched(context, result)
  if (state.round) {
    await claimReturn(context, { by: 'agent', class: result.class, reason: result.reason })
    return AGAIN
  }
  const { kind: _, ...failure } = result
  return { kind: 'conclude', conclusion: { ...failure, phase: Phase.REBOOT, storePath: '' } }
}

/**
 * Why the datastore cannot do without this server while it boots. Who plans a whole cluster asks first; since then another server may
 * have failed or begun to join. A boot that was asked for is under way, and one that leads back is never asked about.
 */
async function whyMissed(
  context: StepContext,
  { signal }: PhaseContext,
  patienceMs: number,
): Promise<PhaseFailure | typeof STOPPED | undefined> {
  const { deps, state, input } = context
  const asked = state.round ? state.round.rebootedFrom !== undefined : state.reboot !== undefined
  if (asked) return undefined
  let why: string | undefined
  try {
    if (!(await deps.kubernetes.isOurs(signal))) return undefined
    why = await untilSpared(context, { waits: 'the reboot waits', patienceMs, signal })
  } catch (error) {
    // As where the datastore does not answer: a boot is what may mend it.
    input.say(`whether the datastore bears a reboot of this server cannot be told: ${reasonOf(error)}`)
  }
  if (signal.aborted) return STOPPED
  return why === undefined
    ? undefined
    : refused(
        'quorum',
        `this server may not boot anew now: ${why}; bring the other servers back, then order again`,
      )
}

/** What the dead man's time leaves beside the boot itself, so that he does not end the wait. */
function patienceOfRound({ deps, seen }: StepContext): number {
  const { kubernetesDeadlineMs, bootDeadlineMs } = deps.config
  const left = seen.deadline && leftUntil(seen.deadline, seen.now)
  return Math.min(kubernetesDeadlineMs, Math.max(0, (left ?? 0) - bootDeadlineMs))
}

async function bootPlainly(context: StepContext, inner: PhaseContext): Promise<PhaseResult<undefined>> {
  const { deps, state } = context
  if (!deps.config.allow.includes('reboot')) {
    return refused(
      'not-allowed',
      'this node may not be ordered to reboot (option `allow` of its configuration)',
    )
  }
  // One that was asked for is begun; it still obeys a hold.
  const problem = state.reboot === undefined ? await beginProblem(context) : heldProblem(context)
  if (problem) return problem
  const missed = await whyMissed(context, inner, deps.config.kubernetesDeadlineMs)
  return missed ?? (await askForBoot(context, inner, state.reboot !== undefined))
}

async function bootRound(context: StepContext, inner: PhaseContext): Promise<PhaseResult<undefined>> {
  const { deps, operation, state } = context
  const folder = armFolder(deps.stateDir, operation, state.round?.number ?? 0)
  const reading = await readArmRecord(folder)
  if (reading.kind !== 'armed') return failed(OutcomeClass.UNKNOWN, 'the record of what was armed is gone')
  const doors = { system: deps.system, units: deps.units, root: deps.config.systemRoot, say: inner.say }
  const profile = join(deps.config.systemRoot, PROFILE)
  const asked = state.round?.rebootedFrom !== undefined
  const { previous } = reading.record
  const current = await currentSystem(deps.system, deps.config.systemRoot)
  // While the agent was away: what is to come back would be another system than what runs.
  if (!asked && current !== previous) {
    const reason = `${current ?? 'an unknown system'} runs, and the way back leads to ${previous}; order again`
    return failed(OutcomeClass.UNKNOWN, reason)
  }
  const problem = asked ? undefined : await setTrial(doors, folder, reading.record, profile)
  if (problem !== undefined) return failed(OutcomeClass.ACTIVATION_FAILED, problem)
  // Writing the boot loader took its time.
  return (await whyMissed(context, inner, 0)) ?? (await askForBoot(context, inner, asked))
}

/** Records the boot that is to end before it asks for the end, and waits. */
async function askForBoot(
  { deps, record, seen, state }: StepContext,
  { signal, say }: PhaseContext,
  asked: boolean,
): Promise<PhaseResult<undefined>> {
  if (!asked) await record({ kind: 'reboot', bootId: seen.now.bootId })
  say('the machine boots anew')
  // A system that was never booted is not to blame for it.
  const notBooted = state.round ? OutcomeClass.UNKNOWN : OutcomeClass.ACTIVATION_FAILED
  const answer = await deps.units.reboot()
  if (answer.kind === 'failed') return failed(notBooted, `the reboot was refused: ${answer.reason}`)
  const startedMs = performance.now()
  const limit = deps.config.bootDeadlineMs
  for (;;) {
    const now = await readBootTime(deps.system)
    if (now.bootId !== seen.now.bootId) return { kind: 'ok', value: undefined, detail: 'booted' }
    const left = state.round && seen.deadline ? leftUntil(seen.deadline, now) : undefined
    if (performance.now() - startedMs > limit || left === 0) {
      return failed(notBooted, `the machine did not boot anew within ${Math.round(limit / 1_000)} s`)
    }
    if (!(await pause(500, signal))) return STOPPED
  }
}
