import { lstat, mkdir, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import {
  makePrivateDirectory,
  readFileIfThere,
  syncDirectory,
  writeFileDurably,
} from '../../../shared/durable-file.ts'
import { hasCode } from '../../../shared/errors.ts'

/** What lies beside the agent's state, over boots. */
export type ClusterMark =
  /** This server has been a member of the datastore: without its data it must not start. */
  | 'member'
  /** Kubernetes stays down, over boots too. */
  | 'hold'
  /** An operation that founds or joins was begun; holds its id. */
  | 'begun'
  /** The operation that founded or joined here, when it is over; holds its id. */
  | 'finished'
  /** The cluster's data is ours to work with: founded, joined or adopted; holds the id of its authority. */
  | 'ours'
  /** This server's own member was taken out by an operation; holds its id. */
  | 'left'
  /** What a restore would write over was set aside; holds the operation's id, of k3s also the names of what k3s had set aside before. */
  | 'set-aside'
  /** The operation that made this cluster's tokens anew by this server; holds its id. */
  | 'rotated'
  /** The operation that put a snapshot's datastore in place; holds its id. */
  | 'restored'
  /** This server's data is from before its cluster was set back to a snapshot: it must not start. */
  | 'stood-down'

/** What says that a machine belongs to a cluster; gone with its data. */
export const MARKS_OF_DATA: readonly ClusterMark[] = [
  'member',
  'begun',
  'finished',
  'ours',
  'left',
  'rotated',
  'restored',
  'stood-down',
]

/** What the units wait for, by its name below the run folder. */
export type ClusterSecret =
  | 'token'
  | 'agent-token'
  | 'start.env'
  | 'bootstrap-kubelet.conf'
  /** k3s: the token of servers and the one that is to take its place; no unit reads it. */
  | 'next-token'

/**
 * Files that the agent gives to the units of a cluster. INVARIANTS: every file is written whole or not at all, for root
 * alone; what units need at a start lies sealed beside the agent's state before it lies open in memory, so that a boot needs
 * nobody; the file that says that all is there is written last.
 */
export interface ClusterFiles {
  put(name: ClusterSecret, text: string): Promise<void>
  get(name: ClusterSecret): Promise<string | undefined>
  /** When this process put it last, in microseconds of the machine's monotonic clock, as systemd counts; 0: it did not. */
  lastPutUs(name: ClusterSecret): number
  /** Forgets one, also over boots. */
  drop(name: ClusterSecret): Promise<void>
  /** Says to the units that what they need is there. */
  setReady(): Promise<void>
  /** Takes everything back that units were given: the node is of no cluster. */
  clear(): Promise<void>
  mark(name: ClusterMark, text?: string): Promise<void>
  unmark(name: ClusterMark): Promise<void>
  /** undefined: it is not set. */
  readMark(name: ClusterMark): Promise<string | undefined>
  /** When it was set, in milliseconds since 1970 by this machine's clock; undefined: it is not. */
  markedMs(name: ClusterMark): Promise<number | undefined>
  /** A file of the distribution's own, with its folders. */
  write(path: string, text: string, mode?: number): Promise<void>
  read(path: string): Promise<Buffer | undefined>
  /** Names of a folder; none where there is no folder. */
  list(path: string): Promise<readonly string[]>
  /** Regular files anywhere below a folder, by their paths within it, with their bytes; none where there is no folder. */
  sizes(path: string): Promise<ReadonlyMap<string, number>>
  /** A folder belongs to the user that this program runs as, and nobody else may enter, read or change it. */
  isPrivate(path: string): Promise<boolean>
  /** Makes a folder that only root may enter. */
  makeFolder(path: string): Promise<void>
  /** Gives a folder another name; false: there is none. */
  move(from: string, to: string): Promise<boolean>
  remove(path: string): Promise<void>
  /** Where a folder is, every link on the way followed; itself where there is none. */
  resolve(path: string): Promise<string>
  /** The path that programs are to be told. */
  readonly stateDir: string
  readonly runDir: string
}

export interface ClusterFilesOptions {
  readonly stateDir: string
  readonly runDir: string
  /** Before every absolute path; for tests. */
  readonly root?: string
  /** Makes of a secret what may lie on the disk: it opens with the node's own key alone. */
  readonly seal: (name: string, bytes: Buffer) => Promise<Uint8Array>
}

/** A snapshot has a dozen. */
const MAX_FILES = 10_000

export function createClusterFiles({ stateDir, runDir, root = '', seal }: ClusterFilesOptions): ClusterFiles {
  const real = (path: string) => `${root}${path}`
  const sealed = join(stateDir, 'sealed')
  const put = async (name: string, text: string) => {
    await makePrivateDirectory(real(sealed))
    await makePrivateDirectory(real(runDir))
    await writeFileDurably(real(join(sealed, name)), await seal(name, Buffer.from(text)))
    await writeFileDurably(real(join(runDir, name)), text)
  }
  const putUs = new Map<ClusterSecret, number>()
  const files: ClusterFiles = {
    stateDir,
    runDir,
    put: async (name, text) => {
      await put(name, text)
      putUs.set(name, Number(process.hrtime.bigint() / 1_000n))
    },
    lastPutUs: name => putUs.get(name) ?? 0,
    get: async name => (await readFileIfThere(real(join(runDir, name))))?.toString('utf8'),
    drop: async name => {
      // What lies open last: as long as it is there, it is known that this was not over.
      for (const folder of [sealed, runDir]) await files.remove(join(folder, name))
    },
    setReady: async () => await put('ready', ''),
    clear: async () => {
      for (const folder of [runDir, sealed]) {
        // What says that all is there goes first.
        for (const name of ['ready', ...(await files.list(folder))]) await files.remove(join(folder, name))
      }
    },
    mark: async (name, text = '') => {
      await makePrivateDirectory(real(stateDir))
      await writeFileDurably(real(join(stateDir, name)), text)
    },
    unmark: async name => await files.remove(join(stateDir, name)),
    readMark: async name => (await readFileIfThere(real(join(stateDir, name))))?.toString('utf8'),
    markedMs: async name => {
      try {
        return (await stat(real(join(stateDir, name)))).mtimeMs
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return undefined
        throw error
      }
    },
    write: async (path, text, mode = 0o600) => {
      await mkdir(real(dirname(path)), { recursive: true, mode: 0o755 })
      await writeFileDurably(real(path), text, mode)
    },
    read: async path => await readFileIfThere(real(path)),
    list: async path => {
      try {
        return (await readdir(real(path))).sort()
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return []
        throw error
      }
    },
    sizes: async path => {
      const found = new Map<string, number>()
      if (!(await isFolder(real(path)))) return found
      for (const entry of await readdir(real(path), { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue
        if (found.size >= MAX_FILES) throw new RangeError(`${path}: more than ${MAX_FILES} files`)
        const file = join(entry.parentPath, entry.name)
        found.set(relative(real(path), file), (await lstat(file)).size)
      }
      return found
    },
    isPrivate: async path => {
      const { uid, mode } = await lstat(real(path))
      return uid === process.geteuid?.() && (mode & 0o077) === 0
    },
    makeFolder: async path => await makePrivateDirectory(real(path)),
    move: async (from, to) => {
      try {
        await rename(real(from), real(to))
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return false
        throw error
      }
      await syncDirectory(dirname(real(to)))
      return true
    },
    resolve: async path => {
      try {
        const found = await realpath(real(path))
        return root === '' ? found : found.slice((await realpath(root)).length)
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return path
        throw error
      }
    },
    remove: async path => {
      await rm(real(path), { recursive: true, force: true })
      if (await isFolder(dirname(real(path)))) await syncDirectory(dirname(real(path)))
    },
  }
  return files
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}
