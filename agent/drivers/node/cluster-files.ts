import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
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

/** What says that a machine belongs to a cluster; gone with its data. */
export const MARKS_OF_DATA: readonly ClusterMark[] = ['member', 'begun', 'finished', 'ours', 'left']

/** What the units wait for, by its name below the run folder. */
export type ClusterSecret = 'token' | 'agent-token' | 'start.env' | 'bootstrap-kubelet.conf'

/**
 * Files that the agent gives to the units of a cluster. INVARIANTS: every file is written whole or not at all, for root
 * alone; what units need at a start lies sealed beside the agent's state before it lies open in memory, so that a boot needs
 * nobody; the file that says that all is there is written last.
 */
export interface ClusterFiles {
  put(name: ClusterSecret, text: string): Promise<void>
  get(name: ClusterSecret): Promise<string | undefined>
  /** Says to the units that what they need is there. */
  setReady(): Promise<void>
  /** Takes everything back that units were given: the node is of no cluster. */
  clear(): Promise<void>
  mark(name: ClusterMark, text?: string): Promise<void>
  unmark(name: ClusterMark): Promise<void>
  /** undefined: it is not set. */
  readMark(name: ClusterMark): Promise<string | undefined>
  /** A file of the distribution's own, with its folders. */
  write(path: string, text: string, mode?: number): Promise<void>
  read(path: string): Promise<Buffer | undefined>
  /** Names of a folder; none where there is no folder. */
  list(path: string): Promise<readonly string[]>
  /** Makes a folder that only root may enter. */
  makeFolder(path: string): Promise<void>
  /** Gives a folder another name; false: there is none. */
  move(from: string, to: string): Promise<boolean>
  remove(path: string): Promise<void>
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

export function createClusterFiles({ stateDir, runDir, root = '', seal }: ClusterFilesOptions): ClusterFiles {
  const real = (path: string) => `${root}${path}`
  const sealed = join(stateDir, 'sealed')
  const put = async (name: string, text: string) => {
    await makePrivateDirectory(real(sealed))
    await makePrivateDirectory(real(runDir))
    await writeFileDurably(real(join(sealed, name)), await seal(name, Buffer.from(text)))
    await writeFileDurably(real(join(runDir, name)), text)
  }
  const files: ClusterFiles = {
    stateDir,
    runDir,
    put,
    get: async name => (await readFileIfThere(real(join(runDir, name))))?.toString('utf8'),
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
