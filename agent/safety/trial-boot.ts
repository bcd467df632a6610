import { join } from 'node:path'
import { describeEnding, type RunResult, type System, succeeded } from '../system/system.ts'
import { profileSystem } from '../system/system-links.ts'
import type { ArmRecord } from './arm-record.ts'
import type { ArmFolder } from './operation-folder.ts'
import { runBoot } from './run-boot.ts'
import { EFI_MOUNTS } from './stale-loader.ts'
import type { WatchDeps } from './switch-unit.ts'

const SHORT_MS = 60_000
/** EFI variable in which systemd-boot says what it can do, for the vendor id of its own. */
const LOADER_FEATURES = '/sys/firmware/efi/efivars/LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'
const ENTRY_ONE_SHOT = 1n << 3n

/** Whether the boot loader that booted this machine can boot an entry once; undefined: nobody can tell. */
export async function hasOneShotBoot(system: System): Promise<boolean | undefined> {
  const reading = await system.readFile(LOADER_FEATURES, 64)
  if (reading.kind === 'missing') return false
  // Four bytes of attributes stand before the value.
  if (reading.kind !== 'file' || reading.bytes.length < 12) return undefined
  return (reading.bytes.readBigUInt64LE(4) & ENTRY_ONE_SHOT) !== 0n
}

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
  const run = (command: string, ...args: string[]) => system.run(command, args, { deadlineMs: SHORT_MS })
  const set = await run('nix-env', '-p', profile, '--set', arm.target)
  if (!succeeded(set.ending)) return said('nix-env --set', set)
  const made = await profileSystem(system, root)
  if (made?.storePath !== arm.target || made.generation === undefined) {
    return `no generation of ${arm.target} was made in the profile`
  }
  if (arm.mode === 'reboot') return await runBoot(doors, folder, arm, arm.target)

  if (arm.generation === undefined) return 'the old system has no generation to stay the default'
  const back = await run('nix-env', '-p', profile, '--switch-generation', String(arm.generation))
  if (!succeeded(back.ending)) return said('nix-env --switch-generation', back)
  const written = await runBoot(doors, folder, arm, arm.profile)
  if (written !== undefined) return written
  const entry = entryOf(made.generation)
  for (const needed of [entry, entryOf(arm.generation)]) {
    if (await hasEntry(system, root, needed)) continue
    return `the boot loader's installer wrote no entry ${needed}: boot.loader.systemd-boot.configurationLimit must leave room for the old and the new generation, and its boot counting must be off`
  }
  const chosen = await run('bootctl', 'set-oneshot', entry)
  if (!succeeded(chosen.ending)) return said(`bootctl set-oneshot ${entry}`, chosen)
  say(`boots ${entry} once; generation ${arm.generation} stays the default`)
  return undefined
}

const entryOf = (generation: number) => `nixos-generation-${generation}.conf`

async function hasEntry(system: System, root: string, entry: string): Promise<boolean> {
  for (const mount of EFI_MOUNTS) {
    const found = await system.exists(join(root, mount, 'loader/entries', entry))
    if (found.kind === 'present') return true
  }
  return false
}

function said(command: string, { ending, stderr }: RunResult): string {
  return `${describeEnding(command, ending)}: ${(stderr.trim().split('\n').at(-1) ?? '').slice(0, 300)}`
}
