import { describeEnding, type RunResult, succeeded } from '../system/system.ts'
import { profileSystem } from '../system/system-links.ts'
import type { ArmRecord } from './arm-record.ts'
import { entryOf, hasEntry, whyNotDefault } from './boot-default.ts'
import { chooseOnce } from './one-shot.ts'
import type { ArmFolder } from './operation-folder.ts'
import { pointProfile } from './point-profile.ts'
import { runBoot } from './run-boot.ts'
import type { WatchDeps } from './switch-unit.ts'

const SHORT_MS = 60_000

/**
 * Prepares the boot into the new system. For a trial: a generation and a boot entry for it, while the default stays the
 * old one, and the one-shot choice of the new entry. The boot loader's installer writes an entry for every generation of
 * the profile and makes that of the toplevel it was called for the default, so the old system's program is called while the
 * profile holds both. Says what went wrong.
 */
export async function setTrial(
  doors: WatchDeps,
  folder: ArmFolder,
  arm: ArmRecord,
  profile: string,
): Promise<string | undefined> {
  const { system, root, say } = doors
  let { generation } = arm
  if (arm.mode === 'trial' && arm.defaultMoves === true) {
    const kept = await pointProfile(system, root, arm.profile, generation)
    if (kept.kind === 'failed') return kept.reason
    generation = kept.generation
  }
  const set = await system.run('nix-env', ['-p', profile, '--set', arm.target], { deadlineMs: SHORT_MS })
  if (!succeeded(set.ending)) return said('nix-env --set', set)
  const made = await profileSystem(system, root)
  if (made?.storePath !== arm.target || made.generation === undefined) {
    return `no generation of ${arm.target} was made in the profile`
  }
  if (arm.mode === 'reboot') return await runBoot(doors, folder, arm, arm.target)

  if (generation === undefined) return 'the old system has no generation to stay the default'
  const number = String(generation)
  const back = await system.run('nix-env', ['-p', profile, '--switch-generation', number], {
    deadlineMs: SHORT_MS,
  })
  if (!succeeded(back.ending)) return said('nix-env --switch-generation', back)
  const written = await runBoot(doors, folder, arm, arm.profile)
  if (written !== undefined) return written
  const entry = entryOf(made.generation)
  const lacking =
    (await whyNotDefault(system, root, arm.profile)) ??
    ((await hasEntry(system, root, entry)) ? undefined : `there is no boot entry ${entry}`)
  if (lacking !== undefined) {
    return `nothing can be tried with what the boot loader's installer wrote: ${lacking}; boot.loader.systemd-boot.configurationLimit must leave room for the old and the new generation, and its boot counting must be off`
  }
  const chosen = await chooseOnce(system, entry)
  if (chosen !== undefined) return chosen
  say(`boots ${entry} once; generation ${generation} stays the default`)
  return undefined
}

function said(command: string, { ending, stderr }: RunResult): string {
  return `${describeEnding(command, ending)}: ${(stderr.trim().split('\n').at(-1) ?? '').slice(0, 300)}`
}
