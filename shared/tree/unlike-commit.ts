import { createHash, type Hash } from 'node:crypto'
import { constants, type Stats } from 'node:fs'
import { lstat, open, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../errors.ts'

/** A file as a commit holds it. */
export interface CommittedFile {
  readonly path: string
  /** 100644, 100755 or 120000. */
  readonly mode: string
  /** Of the blob: 40 characters of SHA-1, or 64 of SHA-256. */
  readonly id: string
}

/** Reads a line of `git ls-tree -r -z`; undefined: a submodule, which has no content here. */
export function readTreeLine(line: string): CommittedFile | undefined {
  const [, mode = '', kind, id = '', path = ''] = /^(\d+) (\w+) ([0-9a-f]+)\t(.+)$/s.exec(line) ?? []
  return kind === 'blob' ? { path, mode, id } : undefined
}

/**
 * Paths of which the folder has other bytes, another kind or another mode than the commit. Git itself calls much of that unchanged: line
 * ends and filters (LFS, git-crypt) that it converts on the way, modes that it is told to overlook, files that it is told to leave alone.
 * Packed is what lies in the folder, so only the bytes themselves say whether that is the commit.
 */
export async function filesUnlikeCommit(dir: string, files: readonly CommittedFile[]): Promise<string[]> {
  const unlike: string[] = []
  for (const file of files) if (!(await isAsCommitted(dir, file))) unlike.push(file.path)
  return unlike.sort()
}

async function isAsCommitted(dir: string, { path, mode, id }: CommittedFile): Promise<boolean> {
  const full = join(dir, path)
  const stat = await lstatOrNone(full)
  if (!stat) return false
  if (stat.isSymbolicLink()) {
    if (mode !== '120000') return false
    const target = await readlink(full, { encoding: 'buffer' })
    return blobHash(id, target.length).update(target).digest('hex') === id
  }
  const wanted = (stat.mode & 0o100) === 0 ? '100644' : '100755'
  return stat.isFile() && mode === wanted && (await hashFile(full, stat.size, id)) === id
}

/** Git's name for a content: of its length and its bytes, by the hash that the repository uses. */
function blobHash(id: string, length: number): Hash {
  return createHash(id.length === 64 ? 'sha256' : 'sha1').update(`blob ${length}\0`)
}

async function hashFile(full: string, size: number, id: string): Promise<string> {
  const hash = blobHash(id, size)
  // A file replaced by a link or a pipe meanwhile must neither be followed nor waited for.
  const handle = await open(full, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    for await (const chunk of handle.createReadStream({ autoClose: false })) hash.update(chunk)
  } finally {
    await handle.close()
  }
  return hash.digest('hex')
}

async function lstatOrNone(full: string): Promise<Stats | undefined> {
  try {
    return await lstat(full)
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
}
