import { pause } from '../../shared/lifecycle.ts'
import type { System } from '../system/system.ts'
import { bootedSystem } from '../system/system-links.ts'
import type { Units } from '../units/units.ts'
import { type ArmCore, readArmRecord } from './arm-record.ts'
import { readDeadline } from './deadline.ts'
import { doorsOf } from './machine-door.ts'
import { type ArmFolder, listArmFolders } from './operation-folder.ts'
import type { BootFinding } from './rearm-at-boot.ts'
import { readBootTime } from './uptime.ts'
import { readVerdict } from './verdict.ts'

const LOOK_MS = 2_000
/** How long a machine may take to stop what runs before it is made to boot without that. */
const ORDERLY_MS = 5 * 60_000

/** Whether this boot tries a system and the dead man, who gives it its time, has not been started yet. */
export function isUnseenTrial({
  arm,
  verdict,
  bootId,
  booted,
  armedFor,
}: Omit<BootFinding, 'end' | 'arm'> & { readonly arm: ArmCore }): boolean {
  return arm.mode === 'trial' && verdict.kind === 'none' && booted === arm.target && armedFor !== bootId
}

/**
 * Run from the first moments of every boot, beside all else. The dead man is started when the basic system is up: a trial
 * that never gets there, because a unit before that waits for ever, would wait with it. A boot that tries nothing is left
 * alone however long it takes.
 */
export async function limitTrial(
  stateDir: string,
  limitMs: number,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const until = performance.now() + limitMs
  for (const folder of await listArmFolders(stateDir)) {
    const reading = await readArmRecord(folder)
    if (reading.kind !== 'armed' && reading.kind !== 'newer') continue
    const arm = reading.kind === 'armed' ? reading.record : reading.core
    await endUnseenTrial(doorsOf(arm, stateDir), folder, arm, { until, say, signal })
  }
}

export interface TrialWatch {
  /** By `performance.now()`. */
  readonly until: number
  readonly say: (line: string) => void
  readonly signal: AbortSignal
  readonly lookMs?: number
  readonly orderlyMs?: number
}

/** Waits until the dead man has seen this trial, and where that does not come has the machine boot the system before. */
export async function endUnseenTrial(
  { system, units }: { readonly system: System; readonly units: Units },
  folder: ArmFolder,
  arm: ArmCore,
  { until, say, signal, lookMs = LOOK_MS, orderlyMs = ORDERLY_MS }: TrialWatch,
): Promise<void> {
  const unseen = async () =>
    isUnseenTrial({
      arm,
      verdict: await readVerdict(folder),
      bootId: (await readBootTime(system)).bootId,
      booted: await bootedSystem(system, arm.systemRoot),
      armedFor: (await readDeadline(folder))?.bootId,
    })
  while (await unseen()) {
    const left = until - performance.now()
    if (left > 0) {
      if (!(await pause(Math.min(left, lookMs), signal))) return
      continue
    }
    // The choice of the entry was for one boot, so that any other one is into the system before.
    say(
      `operation ${arm.operation}: this trial boot did not get as far as the dead man in time; the machine boots again`,
    )
    const asked = await units.reboot('past-locks')
    if (asked.kind === 'failed') say(asked.reason)
    else if (!(await pause(orderlyMs, signal))) return
    say('what runs does not stop: the machine boots again without waiting for it')
    const forced = await units.reboot('force')
    if (forced.kind === 'failed') throw new Error(forced.reason)
    return
  }
}
