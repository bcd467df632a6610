import { constants } from 'node:fs'
import { chmod, lstat, lutimes, mkdir, open, rename, rm, symlink, utimes } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { syncDirectory } from '../durable-file.ts'
import { hasCode } from '../errors.ts'
import { readTree, type TreeItem } from './read-tree.ts'
import { checkFile, type ExpectedTree, readAll, type TreeCheck } from './receive-tree.ts'
import { TreeRefusal } from './tree-refusal.ts'

/** The time of everything unpacked, so that flakes which look at it come out the same on every machine. */
const TREE_TIME_SECONDS = 1

export interface UnpackInput extends ExpectedTree {
  /** The packed tree, as `receiveTree` left it. */
  readonly file: string
  /** The folder to make; its parent must exist. Named after the digest by whoever calls. */
  readonly destination: string
}

/**
 * Unpacks a packed tree into a folder that was not there before. Digest and length are checked before a byte is parsed.
 * The folder appears whole, once everything in it is durable: a destination that exists was unpacked completely, and
 * calling again changes nothing.
 * A destination has one writer at a time; what a killed one left beside it is removed.
 */
export async function unpackTree(input: UnpackInput): Promise<TreeCheck> {
  const { file, destination } = input
  if (await isFolder(destination)) return { kind: 'ok' }
  const partial = join(dirname(destination), `.${basename(destination)}.partial`)
  await rm(partial, { recursive: true, force: true })
  // One handle for checking and reading, so that no other file can stand there in between.
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const check = await checkFile(handle, input)
    if (check.kind === 'refused') return check
    await writeItems(readTree(readAll(handle)), partial)
    await rename(partial, destination)
    await syncDirectory(dirname(destination))
    return check
  } catch (error) {
    await rm(partial, { recursive: true, force: true })
    if (!(error instanceof TreeRefusal)) throw error
    return { kind: 'refused', class: 'malformed', reason: `packed tree: ${error.message}` }
  } finally {
    await handle.close()
  }
}

/** INVARIANT: `open` holds the folders from the root to the last entry; a folder that is left never gets another entry. */
async function writeItems(items: AsyncIterable<TreeItem>, root: string): Promise<void> {
  await mkdir(root, { mode: 0o755 })
  const open: string[] = []
  for await (const { entry, content } of items) {
    const parts = entry.path.split('/').slice(0, -1)
    const shared = parts.findIndex((name, index) => name !== open[index])
    const keep = shared === -1 ? parts.length : shared
    while (open.length > keep) await leaveFolder(join(root, ...open), open)
    for (const name of parts.slice(open.length)) {
      open.push(name)
      await mkdir(join(root, ...open), { mode: 0o755 })
    }
    const path = join(root, entry.path)
    if (entry.kind === 'link') {
      await symlink(entry.target, path)
      await lutimes(path, TREE_TIME_SECONDS, TREE_TIME_SECONDS)
    } else await writeContent(path, entry.executable ? 0o755 : 0o644, content)
  }
  while (open.length > 0) await leaveFolder(join(root, ...open), open)
  await leaveFolder(root, open)
}

async function leaveFolder(path: string, open: string[]): Promise<void> {
  open.pop()
  // The umask may have taken bits away.
  await chmod(path, 0o755)
  await utimes(path, TREE_TIME_SECONDS, TREE_TIME_SECONDS)
  await syncDirectory(path)
}

async function writeContent(path: string, mode: number, content: AsyncIterable<Buffer>): Promise<void> {
  // O_EXCL also refuses a link of that name, so nothing is ever written through one.
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode)
  try {
    for await (const piece of content) await handle.writeFile(piece)
    // The umask may have taken bits away.
    await handle.chmod(mode)
    await handle.utimes(TREE_TIME_SECONDS, TREE_TIME_SECONDS)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    const stat = await lstat(path)
    if (stat.isDirectory()) return true
    throw new Error(`${path}: is there, but is no folder; remove it`)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}
