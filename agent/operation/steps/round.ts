import { type ArmCore, type ArmReading, type ArmRecord, readArmRecord } from '../../safety/arm-record.ts'
import { type ArmFolder, armFolder } from '../../safety/operation-folder.ts'
import type { WatchDeps } from '../../safety/switch-unit.ts'
import type { StepContext } from './step-context.ts'

export function folderOf({ deps, operation, state }: StepContext): ArmFolder {
  return armFolder(deps.stateDir, operation, state.round?.number ?? 0)
}

/** The round an operation is in: its folder and what was armed. An armed round without its record is an error. */
export async function roundOf(context: StepContext): Promise<{
  readonly folder: ArmFolder
  readonly arm: ArmRecord
}> {
  const folder = folderOf(context)
  const reading = await readArmRecord(folder)
  if (reading.kind === 'armed') return { folder, arm: reading.record }
  throw noRecord(folder, reading)
}

/** What the way back needs of it, also where only a newer program can read it all. */
export async function wayBackOf(context: StepContext): Promise<{
  readonly folder: ArmFolder
  readonly arm: ArmCore
}> {
  const folder = folderOf(context)
  const reading = await readArmRecord(folder)
  if (reading.kind === 'newer') return { folder, arm: reading.core }
  if (reading.kind === 'armed') return { folder, arm: reading.record }
  throw noRecord(folder, reading)
}

function noRecord(folder: ArmFolder, reading: Exclude<ArmReading, { kind: 'armed' }>): Error {
  return new Error(
    reading.kind === 'missing' ? `${folder.path}: the record of what was armed is gone` : reading.reason,
  )
}

export function watchDeps({ deps, input }: StepContext): WatchDeps {
  return { system: deps.system, units: deps.units, root: deps.config.systemRoot, say: input.say }
}
