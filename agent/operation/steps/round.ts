import { type ArmRecord, readArmRecord } from '../../safety/arm-record.ts'
import { type ArmFolder, armFolder } from '../../safety/operation-folder.ts'
import type { WatchDeps } from '../../safety/switch-unit.ts'
import type { StepContext } from './step-context.ts'

/** The round an operation is in: its folder and what was armed. An armed round without its record is an error. */
export async function roundOf({ deps, operation, state }: StepContext): Promise<{
  readonly folder: ArmFolder
  readonly arm: ArmRecord
}> {
  const folder = armFolder(deps.stateDir, operation, state.round?.number ?? 0)
  const reading = await readArmRecord(folder)
  if (reading.kind === 'armed') return { folder, arm: reading.record }
  throw new Error(
    reading.kind === 'missing' ? `${folder.path}: the record of what was armed is gone` : reading.reason,
  )
}

export function watchDeps({ deps, input }: StepContext): WatchDeps {
  return { system: deps.system, units: deps.units, root: deps.config.systemRoot, say: input.say }
}
