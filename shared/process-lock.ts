import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readFileIfThere } from './durable-file.ts'
import { hasCode } from './errors.ts'

/** The directory belongs to another process, or nobody can tell. */
export class LockError extends Error {
  override readonly name = 'LockError'
}

/** Who holds the lock: a process is the same one only when its start time and the boot are the same too. */
interface Holder {
  readonly pid: number
  readonly started: string
  readonly bootId: string
}

const ATTEMPTS = 5

/**
 * Makes this process the only one of its program (`name`, for messages) to use a directory. Node has no flock: the lock is a file that is linked into
 * place whole, and names its holder so that one left behind by a killed process is told from a live one.
 */
export async function lockDirectory(directory: string, name: string): Promise<AsyncDisposable> {
  const path = join(directory, 'lock')
  const own = join(directory, `.lock.${randomBytes(6).toString('hex')}`)
  const text = JSON.stringify({
    pid: process.pid,
    started: (await processStart(process.pid)) ?? '',
    bootId: await readBootId(),
  })
  await writeFile(own, text, { mode: 0o600, flag: 'wx' })
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (await linkOnce(own, path)) {
        return {
          async [Symbol.asyncDispose]() {
            const current = await readFileIfThere(path)
            if (current?.toString() === text) await rm(path, { force: true })
          },
        }
      }
      const found = await readFileIfThere(path)
      if (!found) continue
      const holder = parseHolder(found.toString())
      if (!holder) {
        throw new LockError(`${path}: cannot be understood; if no ${name} runs here, remove this file`)
      }
      if (await isAlive(holder)) {
        throw new LockError(
          `${directory}: is in use by process ${holder.pid}; a state directory belongs to one ${name} at a time`,
        )
      }
      await takeAway(path, found)
    }
    throw new LockError(`${path}: others keep taking this lock; only one may run here`)
  } finally {
    await rm(own, { force: true })
  }
}

/** Moves a dead process's lock aside. Whoever finds that he moved another one's puts it back. */
async function takeAway(path: string, stale: Buffer): Promise<void> {
  const aside = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await rename(path, aside)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return
    throw error
  }
  if (!(await readFile(aside)).equals(stale)) await linkOnce(aside, path)
  await rm(aside, { force: true })
}

async function linkOnce(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false
    throw error
  }
}

function parseHolder(text: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    const { pid, started, bootId } = Object.fromEntries(Object.entries(value))
    const good = Number.isSafeInteger(pid) && typeof started === 'string' && typeof bootId === 'string'
    return good ? { pid: Number(pid), started, bootId } : undefined
  } catch {
    return undefined
  }
}

async function isAlive(holder: Holder): Promise<boolean> {
  if (holder.bootId !== (await readBootId())) return false
  const started = await processStart(holder.pid)
  return started !== undefined && started === holder.started
}

/** Start time of a process in clock ticks since boot, field 22 of its stat; undefined when there is no such process. */
async function processStart(pid: number): Promise<string | undefined> {
  const stat = (await readFileIfThere(`/proc/${pid}/stat`))?.toString()
  // The second field is a name in parentheses that may hold anything, blanks and parentheses too.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
}

/** Random for each boot of the kernel. */
export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
}
