import { randomBytes } from 'node:crypto'
import { link, open, readdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readFileIfThere, writeFileDurably } from './durable-file.ts'
import { hasCode, reasonOf } from './errors.ts'

/** The directory belongs to another process, or nobody can tell. */
export class LockError extends Error {
  override readonly name = 'LockError'
}

/** Gives a file a second name; tests bring one of a file system that cannot. */
export type MakeLink = (from: string, to: string) => Promise<void>

/** Who holds the lock: a process is the same one only when its start time and the boot are the same too. */
interface Holder {
  readonly pid: number
  readonly started: string
  readonly bootId: string
}

const ATTEMPTS = 50
/** Holds the room that a lock takes, for the start on a disk that is full by then. */
const SPARE = 'lock.spare'
const SPARE_BYTES = 4096
const RELEASED = 'released\n'

/**
 * Makes this process the only one of its program (`name`, for messages) to use a directory. Node has no flock: locks are
 * files `lock.N` that are linked into place whole and name their holder, so that one left behind by a killed process is
 * told from a live one.
 * INVARIANTS: the one with the highest number counts; it is never removed, so numbers only grow, and who links a number
 * that nobody had is the only one to have it. Lower ones are removed after the own one stands: whoever could take a
 * number again that was removed sees the higher one and gives way. A disk that is full keeps nobody out: whoever holds the lock keeps
 * room for the next one.
 */
export async function lockDirectory(
  directory: string,
  name: string,
  makeLink: MakeLink = link,
): Promise<AsyncDisposable> {
  const own = join(directory, `.lock.${randomBytes(6).toString('hex')}`)
  const text = JSON.stringify({
    pid: process.pid,
    started: (await processStart(process.pid)) ?? '',
    bootId: await readBootId(),
  })
  try {
    await writeInRoom(directory, own, text)
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const highest = (await lockNumbers(directory)).at(-1) ?? 0
      await refuseLive(directory, highest, name)
      const path = lockPath(directory, highest + 1)
      if (!(await linkOnce(own, path, makeLink))) continue
      const numbers = await lockNumbers(directory)
      if (numbers.at(-1) !== highest + 1) {
        await rm(path, { force: true })
        continue
      }
      for (const number of numbers.slice(0, -1)) await rm(lockPath(directory, number), { force: true })
      await keepRoom(directory)
      return { [Symbol.asyncDispose]: () => release(path, text) }
    }
    throw new LockError(`${directory}: others keep taking its lock; only one ${name} may run here`)
  } finally {
    await rm(own, { force: true })
  }
}

/** The same where the disk is full: with the room that was kept for it. */
async function writeInRoom(directory: string, path: string, text: string): Promise<void> {
  try {
    await writeWhole(path, text)
  } catch (error) {
    if (!hasCode(error, 'ENOSPC')) throw error
    await rm(path, { force: true })
    await rm(join(directory, SPARE), { force: true })
    await writeWhole(path, text)
  }
}

/** Best effort: where there is no room now, the next start may still find some. */
async function keepRoom(directory: string): Promise<void> {
  const path = join(directory, SPARE)
  try {
    await writeWhole(path, 'x'.repeat(SPARE_BYTES))
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) await rm(path, { force: true })
  }
}

/** Durable before it is linked: else a power cut leaves a lock that names nobody. */
async function writeWhole(path: string, text: string): Promise<void> {
  const handle = await open(path, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const lockPath = (directory: string, number: number) => join(directory, `lock.${number}`)

/** Numbers of all locks, rising. */
async function lockNumbers(directory: string): Promise<number[]> {
  return (await readdir(directory))
    .flatMap(file => /^lock\.([1-9][0-9]{0,14})$/.exec(file)?.[1] ?? [])
    .map(Number)
    .toSorted((a, b) => a - b)
}

async function refuseLive(directory: string, number: number, name: string): Promise<void> {
  if (number === 0) return
  const path = lockPath(directory, number)
  const found = (await readFileIfThere(path))?.toString()
  if (found === undefined || found === RELEASED) return // gone: somebody is faster, and the link will fail
  // Locks are linked whole: one without content lost it with the power, and its holder is gone as well.
  if (found.replaceAll('\0', '') === '') return
  const holder = parseHolder(found)
  if (!holder) {
    throw new LockError(`${path}: cannot be understood; if no ${name} runs here, remove this file`)
  }
  if (await isAlive(holder)) {
    throw new LockError(
      `${directory}: is in use by process ${holder.pid}; a state directory belongs to one ${name} at a time`,
    )
  }
}

/** Says in the lock that nobody holds it. The file stays: its number must not be given twice. */
async function release(path: string, text: string): Promise<void> {
  const current = await readFileIfThere(path)
  if (current?.toString() === text) await writeFileDurably(path, RELEASED)
}

/** What a file system answers that has no hard links, such as FAT; which of them differs. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

/** What a folder's file system must be for state to lie on it, for messages. */
export const OWN_FILE_SYSTEM =
  'put it on a file system with owners and hard links, such as ext4, XFS, btrfs or ZFS; FAT, exFAT and some shares of a network have none'

async function linkOnce(from: string, to: string, makeLink: MakeLink): Promise<boolean> {
  try {
    await makeLink(from, to)
    return true
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false
    if (!NO_LINKS.some(code => hasCode(error, code))) throw error
    throw new LockError(
      `${dirname(to)}: its file system makes no hard links (${reasonOf(error)}), with which what may be decided only once is decided: ${OWN_FILE_SYSTEM}`,
      { cause: error },
    )
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
