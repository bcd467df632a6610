import { join } from 'node:path'
import type { System } from '../system/system.ts'
import { bootMounts } from './boot-mounts.ts'
import { generationsOf } from './point-profile.ts'

const MAX_BYTES = 64 * 1024

/** How the installer of systemd-boot names the entry of a generation; the file's name is what the boot loader calls it by. */
export const entryOf = (generation: number) => `nixos-generation-${generation}.conf`

/**
 * Whether the boot loader starts this system, and no other, when nobody chooses. Undefined: it does. Otherwise why that
 * cannot be said. Of several generations of one system the installer names the newest. Known only where its configuration names the one entry: a pattern, as lanzaboote and boot counting have
 * it, means the newest, and that is what is to be tried.
 */
export async function whyNotDefault(
  system: System,
  root: string,
  storePath: string,
): Promise<string | undefined> {
  const wanted = (await generationsOf(system, root, storePath)).map(entryOf)
  const named = await namedDefault(system, root)
  if (named.kind === 'unknown') return named.why
  if (!wanted.includes(named.entry.toLowerCase())) {
    return `the boot loader's default is ${named.entry === '' ? 'not named' : named.entry} (${named.path}), not ${wanted.join(' or ') || 'an entry'} of the system to go back to; lanzaboote and boot counting always start the newest`
  }
  return (await hasEntry(system, root, named.entry)) ? undefined : `there is no boot entry ${named.entry}`
}

/** Whether the boot loader starts the newest generation, whatever its installer was called for: lanzaboote's does. */
export async function startsNewest(system: System, root: string): Promise<boolean> {
  const named = await namedDefault(system, root)
  return named.kind === 'named' && named.entry.includes('*')
}

export async function hasEntry(system: System, root: string, entry: string): Promise<boolean> {
  for (const mount of await bootMounts(system)) {
    const found = await system.exists(join(root, mount, 'loader/entries', entry))
    if (found.kind === 'present') return true
  }
  return false
}

type NamedDefault =
  | { readonly kind: 'named'; readonly entry: string; readonly path: string }
  | { readonly kind: 'unknown'; readonly why: string }

/** What loader.conf names, in the first place that has one: only one partition was booted from. */
async function namedDefault(system: System, root: string): Promise<NamedDefault> {
  const mounts = await bootMounts(system)
  for (const mount of mounts) {
    const path = join(root, mount, 'loader/loader.conf')
    const reading = await system.readFile(path, MAX_BYTES)
    if (reading.kind === 'missing') continue
    if (reading.kind === 'unreadable') return { kind: 'unknown', why: `${path}: ${reading.code}` }
    const lines = [...reading.bytes.toString('utf8').matchAll(/^[ \t]*default[ \t]+(\S+)[ \t]*$/gm)]
    // As the boot loader has it: the last one counts.
    return { kind: 'named', entry: lines.at(-1)?.[1] ?? '', path }
  }
  return {
    kind: 'unknown',
    why: `there is no loader/loader.conf of systemd-boot below ${mounts.map(mount => `/${mount}`).join(', ')}`,
  }
}
