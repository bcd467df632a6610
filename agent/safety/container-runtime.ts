import { describeEnding, type System, succeeded } from '../system/system.ts'
import type { ArmRecord } from './arm-record.ts'
import { readStartMark, writeStartMark } from './marks.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { readBootTime } from './uptime.ts'

const CALL_MS = 20_000
/** A runtime that starts looks at all of its containers first. */
const RESTART_MS = 3 * 60_000

/**
 * Restarts the container runtime of the system that was switched to. That it does is on disk before, so that a way back restarts the old
 * one. Containers run on meanwhile. Says what is in the way.
 */
export async function restartRuntime(
  system: System,
  folder: ArmFolder,
  arm: ArmRecord,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!arm.runtime) return undefined
  await writeStartMark(slotPath(folder, 'runtime.start'), new Date(), await readBootTime(system))
  return await restartUnits(system, arm.runtime.units, signal)
}

/**
 * Restarts the container runtime of the system that was gone back to, where that of the other one may run. Needs no agent; done twice
 * it costs pods nothing. Says what is in the way.
 */
export async function restartOldRuntime(
  system: System,
  folder: ArmFolder,
  arm: ArmRecord,
  { bootId, booted }: { readonly bootId: string; readonly booted: string | undefined },
): Promise<string | undefined> {
  if (!arm.runtime) return undefined
  const begun = (await readStartMark(slotPath(folder, 'runtime.start'))).kind !== 'unmarked'
  // A boot starts what belongs to the system that is booted.
  const mayBeNew = bootId === arm.bootId ? begun : booted === arm.target
  return mayBeNew ? await restartUnits(system, arm.runtime.units) : undefined
}

async function restartUnits(
  system: System,
  units: readonly string[],
  signal?: AbortSignal,
): Promise<string | undefined> {
  // One that failed too often would not be started again.
  await system.run('systemctl', ['reset-failed', ...units], { deadlineMs: CALL_MS, signal })
  const args = ['restart', ...units]
  const { ending, stderr } = await system.run('systemctl', args, { deadlineMs: RESTART_MS, signal })
  if (succeeded(ending)) return undefined
  return `${describeEnding(`systemctl ${args.join(' ')}`, ending)}: ${stderr.trim().slice(0, 300)}`
}
