import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { System } from '../system/system.ts'

const LOCK = 'run/nixos/switch-to-configuration.lock'
const MAX_BYTES = 256 * 1024

/** Who holds the lock of the switch program. A question that could not be asked is its own answer, and never "free". */
export type LockHolder =
  | { readonly kind: 'free' }
  | { readonly kind: 'switch'; readonly pid: number }
  /** Held by something that is no switch: a child that outlived one and kept its descriptor. */
  | { readonly kind: 'other'; readonly pid: number; readonly program: string }
  | { readonly kind: 'unknown'; readonly reason: string }

export async function switchLockHolder(system: System, root: string): Promise<LockHolder> {
  const path = join(root, LOCK)
  const there = await system.exists(path)
  if (there.kind === 'missing') return { kind: 'free' }
  if (there.kind === 'unreadable') return { kind: 'unknown', reason: `${path}: ${there.code}` }
  const result = await system.run(
    'lslocks',
    ['--noheadings', '--raw', '--notruncate', '--output=PID,COMMAND,PATH'],
    {
      deadlineMs: 20_000,
      maxOutputBytes: MAX_BYTES,
    },
  )
  if (result.ending.kind !== 'exited' || result.ending.exitCode !== 0 || result.truncated) {
    return { kind: 'unknown', reason: 'lslocks cannot be asked' }
  }
  for (const line of result.stdout.split('\n')) {
    const [pid, program = '', held] = line.trim().split(/\s+/)
    if (held !== path || pid === undefined) continue
    return /^switch-to-conf/.test(program)
      ? { kind: 'switch', pid: Number(pid) }
      : { kind: 'other', pid: Number(pid), program }
  }
  return { kind: 'free' }
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
