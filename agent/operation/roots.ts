import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'

/** Operations whose systems stay safe from the garbage collector, the running one included. */
const KEPT = 3

/** Where nixos-rebuild leaves its link to what it built. */
export function buildFolder(stateDir: string, operation: string): string {
  return join(stateDir, 'builds', operation)
}

/** The link that keeps what was fetched. */
export function fetchRoot(stateDir: string, operation: string): string {
  return join(stateDir, 'roots', operation)
}

/**
 * Gives up the roots of all but the newest few operations. On disk and not in /run, so that a system survives a reboot
 * between its build and its activation; bounded, so that a node does not keep every system it ever had.
 */
export async function keepRoots(stateDir: string, current: string): Promise<void> {
  for (const folder of ['builds', 'roots']) {
    const names = await readdir(join(stateDir, folder)).catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return []
      throw error
    })
    const others = await Promise.all(
      names
        .filter(name => name !== current)
        .map(async name => ({ name, at: (await lstat(join(stateDir, folder, name))).mtimeMs })),
    )
    for (const { name } of others.toSorted((a, b) => b.at - a.at).slice(KEPT - 1)) {
      await rm(join(stateDir, folder, name), { recursive: true, force: true })
    }
  }
}
