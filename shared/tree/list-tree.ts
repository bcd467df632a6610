import { lstat, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../errors.ts'
import { escapeText } from '../escape.ts'
import { listGitFiles, listUnignoredFiles } from './git.ts'
import { END_OF_TREE, packedLength } from './tar-header.ts'
import { checkEntry, countNewFolders, sortEntries, type TreeEntry } from './tree-entry.ts'
import { MAX_DEPTH, MAX_ENTRIES, MAX_TREE_BYTES } from './tree-limits.ts'
import { GitMissing, TreeRefusal } from './tree-refusal.ts'

/** What of a folder goes into a packed tree, in order. */
export interface TreeListing {
  readonly dir: string
  readonly entries: readonly TreeEntry[]
  /** Of the whole packed tree. */
  readonly length: number
  /** What people should know about how the files were chosen. */
  readonly notes: readonly string[]
}

/**
 * Chooses the files of a fleet directory: what git tracks or would track; outside a repository, everything that no
 * .gitignore names but `.git` and the links that nix-build leaves. Throws a TreeRefusal that names the file when one of them cannot be packed.
 */
export async function listTree(dir: string): Promise<TreeListing> {
  const notes: string[] = []
  const fromGit = await listGitFiles(dir)
  const names = fromGit ?? (await listPlainFolder(dir))
  if (!fromGit) {
    notes.push(
      'no git repository: every file that no .gitignore names is packed, but .git and the links that nix-build leaves',
    )
  }
  const paths = new Set(names.map(decodeName))
  const found: TreeEntry[] = []
  for (const path of paths) {
    const entry = await readEntry(dir, path)
    // A tracked file that was deleted; git's state names it as a change.
    if (!entry) continue
    checkEntry(entry)
    found.push(entry)
  }
  const entries = sortEntries(found)
  if (entries.length === 0) throw new TreeRefusal(`${dir}: has no files to pack`)
  return { dir, entries, length: measure(entries), notes }
}

/** The length of the packed tree; throws when it breaks a limit. */
function measure(entries: readonly TreeEntry[]): number {
  let length = END_OF_TREE.length
  let folders = 0
  let before: string | undefined
  for (const entry of entries) {
    length += packedLength(entry)
    folders += countNewFolders(before, entry.path)
    before = entry.path
  }
  if (entries.length > MAX_ENTRIES || folders > MAX_ENTRIES) {
    throw new TreeRefusal(`more than ${MAX_ENTRIES} files or folders; ignore what machines do not need`)
  }
  if (length > MAX_TREE_BYTES) {
    throw new TreeRefusal(
      `${length} bytes, at most ${MAX_TREE_BYTES} are allowed; ignore what machines do not need`,
    )
  }
  return length
}

async function readEntry(dir: string, path: string): Promise<TreeEntry | undefined> {
  const full = join(dir, path)
  try {
    const stat = await lstat(full)
    if (stat.isFile()) return { kind: 'file', path, size: stat.size, executable: (stat.mode & 0o100) !== 0 }
    if (stat.isSymbolicLink()) {
      return { kind: 'link', path, target: decodeName(await readlink(full, { encoding: 'buffer' })) }
    }
    throw new TreeRefusal(
      stat.isDirectory()
        ? `${escapeText(path)}: a git repository of its own; make it a flake input or remove its .git`
        : `${escapeText(path)}: a device, pipe or socket; only files and links can be packed`,
    )
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
}

/** Outside a repository a .gitignore counts just the same; where git is missing to read it, it may not be passed over. */
async function listPlainFolder(dir: string): Promise<Buffer[]> {
  const all = await listFolder(dir)
  const ignoring = all.find(name => /(^|\/)\.gitignore$/.test(name.toString()))
  if (!ignoring) return all
  const unignored = await listUnignoredFiles(dir)
  if (unignored === undefined) {
    throw new GitMissing(
      `${escapeText(ignoring.toString())}: is there, but the program git is not; install git, so that it is respected`,
    )
  }
  const kept = new Set(unignored.map(name => name.toString('binary')))
  const isKept = (name: string) =>
    name.endsWith('/') ? [...kept].some(each => each.startsWith(name)) : kept.has(name)
  return all.filter(name => isKept(name.toString('binary')))
}

async function listFolder(dir: string): Promise<Buffer[]> {
  const found: Buffer[] = []
  const walk = async (folder: string, depth: number): Promise<void> => {
    if (depth > MAX_DEPTH) throw new TreeRefusal(`${escapeText(folder)}: deeper than ${MAX_DEPTH} folders`)
    const items = await readdir(join(dir, folder), { withFileTypes: true, encoding: 'buffer' })
    // Told as git tells it, by its folder alone: whoever reads the list refuses it, unless it is ignored.
    if (folder !== '' && items.some(({ name }) => name.toString() === '.git')) {
      found.push(Buffer.from(`${folder}/`))
      return
    }
    for (const item of items) {
      const name = decodeName(item.name)
      const path = folder === '' ? name : `${folder}/${name}`
      if (name === '.git') continue
      if (depth === 0 && item.isSymbolicLink() && /^result(-.*)?$/.test(name)) continue
      if (item.isDirectory()) await walk(path, depth + 1)
      else found.push(Buffer.from(path))
      if (found.length > MAX_ENTRIES) {
        throw new TreeRefusal(`${dir}: more than ${MAX_ENTRIES} files; is this the fleet directory?`)
      }
    }
  }
  await walk('', 0)
  return found
}

function decodeName(bytes: Buffer): string {
  const name = bytes.toString()
  if (!Buffer.from(name).equals(bytes)) throw new TreeRefusal(`${escapeText(name)}: a name that is not UTF-8`)
  return name
}
