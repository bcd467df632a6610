import type { ArmRecord } from './arm-record.ts'
import { whyNotDefault } from './boot-default.ts'
import type { ArmFolder } from './operation-folder.ts'
import { pointProfile } from './point-profile.ts'
import { runBoot } from './run-boot.ts'
import type { WatchDeps } from './switch-unit.ts'

/**
 * Makes what the way back leads to the boot default before anything is tried, where that is not so: profile and boot loader
 * name the target. May be done again. Says what went wrong.
 */
export async function keepDefault(
  doors: WatchDeps,
  folder: ArmFolder,
  arm: ArmRecord,
): Promise<string | undefined> {
  if (arm.defaultMoves !== true) return undefined
  // First, since the installer makes the default only what has a generation; a cut in between is told by the record.
  const pointed = await pointProfile(doors.system, doors.root, arm.profile, arm.generation)
  if (pointed.kind === 'failed') return `the profile could not be set to ${arm.profile}: ${pointed.reason}`
  const written = await runBoot(doors, folder, arm, arm.profile)
  if (written !== undefined) return `the boot entry of ${arm.profile} could not be written: ${written}`
  // The installer drops entries of old generations, and names no default then.
  if ((await whyNotDefault(doors.system, doors.root, arm.target)) === undefined) {
    return `the boot loader's installer left ${arm.target} the default: its configurationLimit has no room for the generation of ${arm.profile}`
  }
  doors.say(`${arm.profile}, which runs, is the boot default until the new system has proved itself`)
  return undefined
}
