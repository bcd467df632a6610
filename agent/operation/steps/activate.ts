import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { judgeSwitch } from '../../safety/judge-switch.ts'
import { recordLists, takeBackLists, tidyListsFor } from '../../safety/lists.ts'
import { slotPath } from '../../safety/operation-folder.ts'
import { rearmDeadMan } from '../../safety/return-unit.ts'
import { freeStaleLock } from '../../safety/switch-lock.ts'
import { type SwitchSeen, switchUnit, unitName, watchSwitch } from '../../safety/switch-unit.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { failed, type PhaseResult, refused, STOPPED } from '../context.ts'
import { readProof } from '../proof-file.ts'
import { roundOf, watchDeps } from './round.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { claimReturn, giveUpUntouched } from './take-back.ts'

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
      const problem = await startSwitch(context)
      if (problem !== undefined) {
        untouched = true
        // The service manager would not: the system is not to blame.
        return refused('not-started', `the switch could not be started: ${problem}; nothing was touched`)
      }
    }
    let seen = await watchSwitch(doors, folder, 'switch', arm.switchMs, signal)
    if (seen && !start && neverBegan(seen)) {
      // Killed after the record and before the unit: it is started now.
      const problem = await startSwitch(context)
      if (problem === undefined) seen = await watchSwitch(doors, folder, 'switch', arm.switchMs, signal)
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
      return { kind: 'ok', value: { degraded: verdict.degraded }, detail: verdict.reason }
    }
    untouched = verdict.kind === 'untouched'
    // Another switch has lists of its own while it has the lock.
    if (untouched && verdict.class !== OutcomeClass.BUSY) {
      const lists = await takeBackLists(deps.system, deps.config.systemRoot, slotPath(folder, 'switch.lists'))
      if (lists !== undefined) say(lists)
    }
    return failed(verdict.class, verdict.reason, verdict.exitCode)
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'ok') {
    await record({ kind: 'activated', instance: before.instance, degraded: result.value.degraded })
    const now = await readBootTime(deps.system)
    // What was announced while the switch ran counts from here as well.
    const extendedMs = context.input.states().get(context.operation)?.extendedMs ?? 0
    const problem = await rearmDeadMan(deps.units, folder, arm, {
      stateDir: deps.stateDir,
      now,
      afterMs: arm.confirmMs + extendedMs,
    })
    if (problem !== undefined)
      context.input.say(`the second timer could not be set, the first one stands: ${problem}`)
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

/** Undefined: it was started. A unit with this name can only be this very round's: it was started before. */
async function startSwitch(context: StepContext): Promise<string | undefined> {
  const { deps, input } = context
  const { folder, arm } = await roundOf(context)
  const tidied = await tidyListsFor(
    { system: deps.system, units: deps.units, root: deps.config.systemRoot },
    arm.target,
  )
  if (tidied !== undefined) input.say(tidied)
  await recordLists(deps.system, deps.config.systemRoot, slotPath(folder, 'switch.lists'))
  const started = await deps.units.start(switchUnit(folder, arm, 'switch', arm.target))
  if (started.kind === 'failed') return started.reason
  input.say(`${unitName('switch', folder)} switches to ${arm.target}`)
  return undefined
}

const neverBegan = ({ began, end, opening }: SwitchSeen) => !began && end === undefined && !opening
