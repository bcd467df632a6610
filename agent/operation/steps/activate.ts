import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { restartRuntime } from '../../safety/container-runtime.ts'
import { judgeSwitch } from '../../safety/judge-switch.ts'
import { keepDefault } from '../../safety/keep-default.ts'
import { recordLists, takeBackLists, tidyListsFor } from '../../safety/lists.ts'
import { readStartMark } from '../../safety/marks.ts'
import { slotPath } from '../../safety/operation-folder.ts'
import { rearmDeadMan } from '../../safety/return-unit.ts'
import { freeStaleLock, switchLockHolder } from '../../safety/switch-lock.ts'
import { type SwitchSeen, switchUnit, unitName, watchSwitch } from '../../safety/switch-unit.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { currentSystem } from '../../system/system-links.ts'
import { failed, type PhaseFailure, type PhaseResult, refused, STOPPED } from '../context.ts'
import { readProof } from '../proof-file.ts'
import { roundOf, watchDeps } from './round.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { claimReturn, giveUpUntouched } from './take-back.ts'

/** How long what was perhaps started may take until nothing is left of it. */
const GONE_MS = 90_000

/** Starts the switch in a unit of its own. From here on the machine may be touched. */
export async function activate(context: StepContext): Promise<StepEnd> {
  return await switchAndJudge(context, true)
}

/** Goes on with a switch that this process or an earlier one started. */
export async function watchActivation(context: StepContext): Promise<StepEnd> {
  return await switchAndJudge(context, false)
}

interface Activated {
  readonly degraded: readonly string[]
}

async function switchAndJudge(context: StepContext, start: boolean): Promise<StepEnd> {
  const { deps, phase, record, state, seen: before } = context
  const { folder, arm } = await roundOf(context)
  let untouched = false
  const result = await phase(Phase.ACTIVATE, async ({ signal, say }): Promise<PhaseResult<Activated>> => {
    const doors = watchDeps(context)
    if (start) {
      const started = await startSwitch(context)
      if (started.kind !== 'started') {
        untouched = started.kind === 'not-started' || started.kind === 'busy'
        return notStarted(started)
      }
    }
    let seen = await watchSwitch(doors, folder, 'switch', arm.switchMs, signal)
    if (seen && !start && neverBegan(seen)) {
      // Killed after the record and before the unit: it is started now.
      const started = await startSwitch(context)
      if (started.kind !== 'started') {
        untouched = started.kind === 'not-started' || started.kind === 'busy'
        return notStarted(started)
      }
      seen = await watchSwitch(doors, folder, 'switch', arm.switchMs, signal)
    }
    if (!seen) return STOPPED
    const verdict = judgeSwitch({
      seen,
      target: arm.target,
      currentBefore: arm.previous,
      failedBefore: new Set(state.round?.failedBefore ?? []),
      failedAfter: await deps.units.failed(),
      tolerated: (await readProof(deps.stateDir, context.operation)).safety.toleratedUnits,
    })
    say(`switch-to-configuration test: ${verdict.reason}`)
    if (verdict.kind === 'good') {
      if (arm.runtime) say(`the container runtime restarts: ${arm.runtime.units.join(', ')}`)
      const problem = await restartRuntime(deps.system, folder, arm, signal)
      if (signal.aborted) return STOPPED
      if (problem !== undefined) {
        return failed(
          OutcomeClass.ACTIVATION_FAILED,
          `the container runtime of the new system does not start: ${problem}`,
        )
      }
      // It waits for the proof from here on. Cut off before that is written down it is set once more.
      await rearm(context, say)
      return { kind: 'ok', value: { degraded: verdict.degraded }, detail: verdict.reason }
    }
    untouched = verdict.kind === 'untouched'
    // Another switch has lists of its own while it has the lock.
    if (untouched && verdict.class !== OutcomeClass.BUSY) {
      const lists = await takeBackLists(deps.system, deps.config.systemRoot, slotPath(folder, 'switch.lists'))
      if (lists !== undefined) say(lists)
    }
    return { ...failed(verdict.class, verdict.reason, verdict.exitCode), refusal: verdict.refusal }
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'ok') {
    await record({ kind: 'activated', instance: before.instance, degraded: result.value.degraded })
    return AGAIN
  }
  if (untouched) {
    if (result.class === OutcomeClass.BUSY)
      await freeStaleLock(deps.system, deps.config.systemRoot, context.input.say)
    return await giveUpUntouched(context, result)
  }
  await claimReturn(context, { by: 'agent', class: result.class, reason: result.reason })
  return AGAIN
}

/** Sets the timer of the time to be confirmed anew: what the switch took of it is given back. */
async function rearm(context: StepContext, say: (line: string) => void): Promise<void> {
  const { deps, input, operation } = context
  const { folder, arm } = await roundOf(context)
  const problem = await rearmDeadMan(deps.units, folder, arm, {
    stateDir: deps.stateDir,
    now: await readBootTime(deps.system),
    // What was announced while the switch ran counts from here as well.
    afterMs: () => arm.confirmMs + (input.states().get(operation)?.extendedMs ?? 0),
  })
  if (problem !== undefined) say(`the second timer could not be set, the first one stands: ${problem}`)
}

type Started =
  | { readonly kind: 'started' }
  /** Nothing of it runs, and it never began. */
  | { readonly kind: 'not-started'; readonly reason: string }
  /** Not begun either: another switch has the lock. */
  | { readonly kind: 'busy'; readonly reason: string }
  /** It was not begun, but the boot loader was touched. */
  | { readonly kind: 'no-default'; readonly reason: string }
  /** It may have run. */
  | { readonly kind: 'unknown'; readonly reason: string }

/** A unit with this name can only be this very round's: it was started before. */
async function startSwitch(context: StepContext): Promise<Started> {
  const { deps, input } = context
  const { folder, arm } = await roundOf(context)
  const current = await currentSystem(deps.system, deps.config.systemRoot)
  if (current !== arm.previous) {
    // By hand, while the agent was away: what is to come back would be another system than what runs.
    const reason = `${current ?? 'an unknown system'} runs, and the way back leads to ${arm.previous}; order again`
    return { kind: 'not-started', reason }
  }
  // A newer switch program ends at once where another has the lock, an older one waits there: for the whole of our deadline,
  // and the way back after it.
  const holder = await switchLockHolder(deps.system, deps.config.systemRoot)
  if (holder.kind === 'switch') return { kind: 'busy', reason: `process ${holder.pid}` }
  const problem = await keepDefault(watchDeps(context), folder, arm)
  if (problem !== undefined) return { kind: 'no-default', reason: problem }
  const tidied = await tidyListsFor(
    { system: deps.system, units: deps.units, root: deps.config.systemRoot },
    arm.target,
  )
  if (tidied !== undefined) input.say(tidied)
  await recordLists(deps.system, deps.config.systemRoot, slotPath(folder, 'switch.lists'))
  const name = unitName('switch', folder)
  const started = await deps.units.start(switchUnit(folder, arm, 'switch', arm.target))
  if (started.kind !== 'failed') {
    input.say(`${name} switches to ${arm.target}`)
    return { kind: 'started' }
  }
  // Who asked may have been given up on while the service manager starts it all the same.
  const { reason } = started
  const stopped = await deps.units.stop(name, GONE_MS)
  if (stopped.kind === 'alive') return { kind: 'unknown', reason: `${reason}; ${stopped.reason}` }
  const began = await readStartMark(slotPath(folder, 'switch.start'))
  return began.kind === 'unmarked'
    ? { kind: 'not-started', reason }
    : { kind: 'unknown', reason: `${reason}; it began all the same, and was stopped` }
}

/** The service manager would not: the system is not to blame. */
function notStarted({ kind, reason }: Exclude<Started, { kind: 'started' }>): PhaseFailure {
  switch (kind) {
    case 'not-started':
      return refused('not-started', `the switch could not be started: ${reason}; nothing was touched`)
    case 'busy':
      return failed(
        OutcomeClass.BUSY,
        `another switch is running (${reason} has the lock); nothing was touched`,
      )
    case 'no-default':
      return failed(
        OutcomeClass.UNKNOWN,
        `the switch was not begun, since what runs could not be made the boot default: ${reason}`,
      )
    case 'unknown':
      return failed(OutcomeClass.UNKNOWN, `whether the switch was started is not known: ${reason}`)
  }
}

const neverBegan = ({ began, end, opening }: SwitchSeen) => !began && end === undefined && !opening
