import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { System } from '../system/system.ts'
import { bootMounts } from './boot-mounts.ts'
import { switchLockHolder } from './switch-lock.ts'

/** systemd-boot's installer writes this file with "it must not exist", and renames it in the same breath. */
const HALF_WRITTEN = 'loader/loader.tmp'

/**
 * Takes away what a cut of systemd-boot's installer (power, SIGKILL) left of its configuration: with that file there every
 * later run fails, of whichever system. Left alone while another switch has the program's lock, under which it is written.
 */
export async function clearStaleLoader(
  system: System,
  root: string,
  say: (line: string) => void,
): Promise<void> {
  for (const mount of await bootMounts(system)) {
    const path = join(root, mount, HALF_WRITTEN)
    if ((await system.exists(path)).kind !== 'present') continue
    const holder = await switchLockHolder(system, root)
    if (holder.kind === 'switch' || holder.kind === 'unknown') {
      say(`${path} is there, and another switch may be writing it: left alone`)
      continue
    }
    await rm(path, { force: true })
    say(
      `${path} was left by a run that was cut: it was taken away, or the boot loader could never be written again`,
    )
  }
}
