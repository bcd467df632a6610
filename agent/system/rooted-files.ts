import { constants } from 'node:fs'
import { access, lstat, open, readdir, readlink, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type {
  DirReading,
  Existence,
  FileReading,
  LinkReading,
  SpaceReading,
  StatReading,
  Unreadable,
} from './system.ts'

/** The file half of the door. */
export interface Files {
  readFile(path: string, maxBytes: number): Promise<FileReading>
  readLink(path: string): Promise<LinkReading>
  listDir(path: string, maxNames?: number): Promise<DirReading>
  exists(path: string): Promise<Existence>
  stat(path: string): Promise<StatReading>
  statLink(path: string): Promise<StatReading>
  space(path: string): Promise<SpaceReading>
}

const MAX_LINKS = 40

/** Files as seen by a machine whose `/` is the folder `root`; links and `..` never lead out of it. */
export function createRootedFiles(root: string): Files {
  const locate = (path: string, followLast: boolean) =>
    root === '/' ? Promise.resolve(path) : locateInside(root, path, followLast)
  return {
    readFile: (path, maxBytes) => attempt(async () => readBounded(await locate(path, true), maxBytes)),
    readLink: path =>
      attempt(async () => ({ kind: 'link', target: await readlink(await locate(path, false)) })),
    listDir: (path, maxNames = 4096) =>
      attempt(async () => {
        const names = (await readdir(await locate(path, true))).sort()
        return { kind: 'dir', names: names.slice(0, maxNames), truncated: names.length > maxNames }
      }),
    exists: path =>
      attempt(async () => {
        await access(await locate(path, true), constants.F_OK)
        return { kind: 'present' }
      }),
    stat: path =>
      attempt(async () => {
        const { size, mtimeMs, dev, ino } = await stat(await locate(path, true))
        return { kind: 'stat', sizeBytes: size, modifiedMs: mtimeMs, file: `${dev}:${ino}` }
      }),
    statLink: path =>
      attempt(async () => {
        const { size, mtimeMs, dev, ino } = await lstat(await locate(path, false))
        return { kind: 'stat', sizeBytes: size, modifiedMs: mtimeMs, file: `${dev}:${ino}` }
      }),
    space: path =>
      attempt(async () => {
        const { bavail, blocks, bsize, ffree, files } = await statfs(await locate(path, true))
        return {
          kind: 'space',
          freeBytes: bavail * bsize,
          totalBytes: blocks * bsize,
          freeFiles: ffree,
          totalFiles: files,
        }
      }),
  }
}

async function readBounded(path: string, maxBytes: number): Promise<FileReading> {
  // Without O_NONBLOCK the opening of a named pipe would wait for a writer that may never come.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    if (!(await file.stat()).isFile()) return { kind: 'unreadable', code: 'not a regular file' }
    const chunks: Buffer[] = []
    let length = 0
    // The size of files in /proc and /sys is not what can be read of them, so read until nothing comes.
    while (length <= maxBytes) {
      const chunk = Buffer.alloc(Math.min(64 * 1024, maxBytes + 1 - length))
      const { bytesRead } = await file.read(chunk, 0, chunk.length, null)
      if (bytesRead === 0) break
      chunks.push(chunk.subarray(0, bytesRead))
      length += bytesRead
    }
    const bytes = Buffer.concat(chunks)
    return { kind: 'file', bytes: bytes.subarray(0, maxBytes), truncated: length > maxBytes }
  } finally {
    await file.close()
  }
}

/** Walks the path part by part, so that absolute links start again at the root and `..` stops there. */
async function locateInside(root: string, path: string, followLast: boolean): Promise<string> {
  const todo = path.split('/').filter(part => part !== '' && part !== '.')
  const done: string[] = []
  let links = 0
  for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
    if (part === '..') {
      done.pop()
      continue
    }
    const here = join(root, ...done, part)
    if ((followLast || todo.length > 0) && (await isLink(here))) {
      links += 1
      if (links > MAX_LINKS) throw Object.assign(new Error(`too many links in ${path}`), { code: 'ELOOP' })
      const target = await readlink(here)
      if (target.startsWith('/')) done.length = 0
      todo.unshift(...target.split('/').filter(p => p !== '' && p !== '.'))
      continue
    }
    done.push(part)
  }
  return join(root, ...done)
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink()
  } catch {
    return false // whatever is wrong with it, the reading itself will tell
  }
}

async function attempt<T>(work: () => Promise<T>): Promise<T | { kind: 'missing' } | Unreadable> {
  try {
    return await work()
  } catch (error) {
    const code = codeOf(error)
    return code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'missing' } : { kind: 'unreadable', code }
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown'
}
