import { rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { System } from '../system/system.ts'

const LOCK = 'run/nixos/switch-to-configuration.lock'
/** More processes than this are not looked through; neither are more open files of one of them. */
const MAX_PROCESSES = 100_000
const MAX_FILES = 65_536
const MAX_BYTES = 16 * 1024

/** Who holds the lock of the switch program. A question that could not be asked is its own answer, and never "free". */
export type LockHolder =
  | { readonly kind: 'free' }
  | { readonly kind: 'switch'; readonly pid: number }
  /** Held by something that is no switch: a child that outlived one and kept its descriptor. */
  | { readonly kind: 'other'; readonly pid: number; readonly program: string }
  | { readonly kind: 'unknown'; readonly reason: string }

/**
 * Looks through the descriptors of all processes. The kernel's own list and `lslocks` name who took a lock, which is gone
 * when a child kept the descriptor.
 */
export async function switchLockHolder(system: System, root: string): Promise<LockHolder> {
  const path = join(root, LOCK)
  const there = await system.exists(path)
  if (there.kind === 'missing') return { kind: 'free' }
  if (there.kind === 'unreadable') return { kind: 'unknown', reason: `${path}: ${there.code}` }
  const processes = await system.listDir('/proc', MAX_PROCESSES)
  if (processes.kind !== 'dir' || processes.truncated) {
    return { kind: 'unknown', reason: '/proc cannot be read' }
  }
  let other: LockHolder | undefined
  let hidden: LockHolder | undefined
  for (const name of processes.names) {
    const held = /^\d+$/.test(name) && (await holdsLock(system, name, path))
    if (held === 'unknown') hidden ??= { kind: 'unknown', reason: `/proc/${name}/fd cannot be read` }
    if (held !== true) continue
    const words = await textOf(system, `/proc/${name}/cmdline`)
    const program = (await textOf(system, `/proc/${name}/comm`)).trim()
    const isSwitch = [program, ...words.split('\0')].some(word => /^switch[-_]to[-_]conf/.test(nameOf(word)))
    if (isSwitch) return { kind: 'switch', pid: Number(name) }
    other ??= { kind: 'other', pid: Number(name), program }
  }
  return hidden ?? other ?? { kind: 'free' }
}

/** The name of a program; the lock's own path on somebody's command line is none. */
const nameOf = (word: string) => (word.endsWith('.lock') ? '' : basename(word))

async function holdsLock(system: System, pid: string, path: string): Promise<boolean | 'unknown'> {
  const files = await system.listDir(`/proc/${pid}/fd`, MAX_FILES)
  // A process that ended meanwhile holds nothing.
  if (files.kind === 'missing' || (files.kind === 'unreadable' && files.code === 'ESRCH')) return false
  if (files.kind === 'unreadable' || files.truncated) return 'unknown'
  for (const file of files.names) {
    const link = await system.readLink(`/proc/${pid}/fd/${file}`)
    if (link.kind !== 'link' || link.target !== path) continue
    if (/^lock:.*\bFLOCK\b/m.test(await textOf(system, `/proc/${pid}/fdinfo/${file}`))) return true
  }
  return false
}

async function textOf(system: System, path: string): Promise<string> {
  const reading = await system.readFile(path, MAX_BYTES)
  return reading.kind === 'file' ? reading.bytes.toString('utf8') : ''
}

/**
 * Puts a new lock file in the place of one that is held by something that is no switch. Whoever holds the old one keeps
 * it, and locks nobody out any more. A lock that a switch holds is left alone.
 */
export async function freeStaleLock(
  system: System,
  root: string,
  say: (line: string) => void,
): Promise<boolean> {
  const holder = await switchLockHolder(system, root)
  if (holder.kind !== 'other') {
    if (holder.kind !== 'free') {
      say(
        holder.kind === 'switch'
          ? `process ${holder.pid} is switching`
          : `who holds the lock is unknown: ${holder.reason}`,
      )
    }
    return false
  }
  const path = join(root, LOCK)
  const fresh = `${path}.muster`
  await rm(fresh, { force: true })
  await writeFile(fresh, '')
  await rename(fresh, path)
  say(`the lock was held by process ${holder.pid} (${holder.program}), which is no switch: it was replaced`)
  return true
}
