import { reasonOf } from '../../shared/errors.ts'
import { pause } from '../../shared/lifecycle.ts'
import type { UnitSpec, Units } from '../units/units.ts'
import { type ArmCore, type ArmRecord, readArmRecord } from './arm-record.ts'
import { changeDeadline, writeDeadline } from './deadline.ts'
import { doorsOf } from './machine-door.ts'
import { type ArmFolder, armFolder } from './operation-folder.ts'
import { unitName } from './switch-unit.ts'
import type { BootTime } from './uptime.ts'
import { walkBack } from './walk-back.ts'

/** The exit code of a way back that broke off before its end was on record, such as on a full disk: it is begun again. */
export const BROKEN_OFF = 75
/** Before that: what broke it off may well be there for long. */
const BROKEN_OFF_PAUSE_MS = 10_000

/** The unit that walks back. Its name is the lock of the way back: whoever starts it, there is one. */
export function returnUnit(folder: ArmFolder, arm: ArmCore, stateDir: string): UnitSpec {
  return {
    name: unitName('return', folder),
    description: `Muster operation ${arm.operation}: back to ${arm.previous} unless it is confirmed`,
    command: [
      ...arm.program,
      'return',
      ...['--state-dir', stateDir, '--operation', arm.operation, '--round', String(arm.round)],
    ],
    env: { PATH: arm.toolPath, LC_ALL: 'C' },
    // Nobody else would walk on while the agent is gone.
    restarts: { alsoOnExitCode: BROKEN_OFF },
  }
}

/**
 * Arms the dead man: after `afterMs` the way back begins, whatever became of the agent. The deadline is on disk first,
 * and what the timer starts goes by it.
 */
export async function armDeadMan(
  units: Units,
  folder: ArmFolder,
  arm: ArmRecord,
  { stateDir, now, afterMs }: { readonly stateDir: string; readonly now: BootTime; readonly afterMs: number },
): Promise<string | undefined> {
  await writeDeadline(folder, { bootId: now.bootId, uptimeMs: now.uptimeMs + afterMs, of: 'proof' })
  return await armTimer(units, folder, arm, stateDir, afterMs)
}

/** Has the way back begin after `afterMs`, or when the deadline that is written is over, whichever is later. */
export async function armTimer(
  units: Units,
  folder: ArmFolder,
  arm: ArmRecord,
  stateDir: string,
  afterMs: number,
): Promise<string | undefined> {
  const started = await units.startTimer({ ...returnUnit(folder, arm, stateDir), afterMs })
  if (started.kind === 'failed') return started.reason
  // Only a timer that waits, or a way back that goes by this very deadline, is as good as a new one.
  const { name } = returnUnit(folder, arm, stateDir)
  if (started.kind === 'taken' && (await units.isActive(`${name}.timer`)) !== true) {
    if ((await units.state(name)).kind !== 'running') return `a unit ${name} is there, but no timer of it`
  }
  return undefined
}

/**
 * Brings the deadline forward or back once the switch is done. The first timer stays as it is; a second one starts the same
 * unit, so there is no moment without one.
 */
export async function rearmDeadMan(
  units: Units,
  folder: ArmFolder,
  arm: ArmRecord,
  {
    stateDir,
    now,
    afterMs,
  }: { readonly stateDir: string; readonly now: BootTime; readonly afterMs: () => number },
): Promise<string | undefined> {
  let leftMs = 0
  // Asked for within the change: what is announced at this instant is in it, or moves what is written here.
  await changeDeadline(folder, async () => {
    leftMs = afterMs()
    return { bootId: now.bootId, uptimeMs: now.uptimeMs + leftMs, of: 'proof' }
  })
  const prove = {
    name: unitName('prove', folder),
    description: `Muster operation ${arm.operation}: time to be confirmed`,
    command: [
      ...arm.program,
      'trigger',
      ...['--state-dir', stateDir, '--operation', arm.operation, '--round', String(arm.round)],
    ],
    env: { PATH: arm.toolPath, LC_ALL: 'C' },
  }
  await units.stopTimer(prove.name)
  const started = await units.startTimer({ ...prove, afterMs: leftMs })
  return started.kind === 'failed' ? started.reason : undefined
}

/** Takes the timers away: nothing is to be taken back any more. */
export async function disarmDeadMan(units: Units, folder: ArmFolder): Promise<void> {
  await units.stopTimer(unitName('prove', folder))
  await units.stopTimer(unitName('return', folder))
}

/** Starts the way back now: the unit that the timer holds, or where there is none any more a new one. */
export async function startReturn(
  units: Units,
  folder: ArmFolder,
  arm: ArmCore,
  stateDir: string,
): Promise<string | undefined> {
  const loaded = await units.startLoaded(unitName('return', folder))
  if (loaded.kind === 'started') return undefined
  const started = await units.start(returnUnit(folder, arm, stateDir))
  return started.kind === 'failed' ? started.reason : undefined
}

export interface ReturnTarget {
  readonly stateDir: string
  readonly operation: string
  readonly round: number
}

/** What the return unit runs: walks back, then has the agent started from what counts now. Gives the exit code. */
export async function runReturn(
  { stateDir, operation, round }: ReturnTarget,
  signal: AbortSignal,
  pauseMs = BROKEN_OFF_PAUSE_MS,
): Promise<number> {
  const say = (line: string) => process.stderr.write(`${line}\n`)
  const folder = armFolder(stateDir, operation, round)
  const reading = await readArmRecord(folder)
  if (reading.kind !== 'armed') {
    say(`nothing is armed: ${reading.kind === 'missing' ? 'no record' : reading.reason}`)
    return 1
  }
  const { system, units } = doorsOf(reading.record, stateDir)
  try {
    const end = await walkBack({ system, units, say, signal, stateDir }, folder, reading.record)
    if (end === 'nothing' || end === 'stopped') return 0
    if (end.kind !== 'booting') await units.restartAgent()
    return end.kind === 'failed' ? 1 : 0
  } catch (error) {
    say(`the way back broke off: ${reasonOf(error)}`)
    await pause(pauseMs, signal)
    return BROKEN_OFF
  }
}

/** What the second timer runs: starts the way back, which the first timer holds. */
export async function triggerReturn({ stateDir, operation, round }: ReturnTarget): Promise<number> {
  const folder = armFolder(stateDir, operation, round)
  const reading = await readArmRecord(folder)
  if (reading.kind !== 'armed') return 1
  const { units } = doorsOf(reading.record, stateDir)
  const problem = await startReturn(units, folder, reading.record, stateDir)
  if (problem !== undefined) process.stderr.write(`${problem}\n`)
  return problem === undefined ? 0 : 1
}
