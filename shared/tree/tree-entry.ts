import { escapeText } from '../escape.ts'
import { MAX_DEPTH, MAX_FILE_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES } from './tree-limits.ts'
import { TreeRefusal } from './tree-refusal.ts'

/** What a packed tree consists of. Folders are implied by the paths below them; an empty one is not kept. */
export type TreeEntry =
  | { readonly kind: 'file'; readonly path: string; readonly size: number; readonly executable: boolean }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }

/** Throws unless the entry may stand in a tree, whoever packed it. */
export function checkEntry(entry: TreeEntry): void {
  checkPath(entry.path)
  if (entry.kind === 'link') checkLinkTarget(entry.path, entry.target)
  else if (!Number.isSafeInteger(entry.size) || entry.size < 0 || entry.size > MAX_FILE_BYTES) {
    throw new TreeRefusal(`${escapeText(entry.path)}: larger than ${MAX_FILE_BYTES} bytes`)
  }
}

function checkPath(path: string): void {
  const shown = escapeText(path.slice(0, 200))
  if (path === '') throw new TreeRefusal('a path is empty')
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new TreeRefusal(`${shown}…: a path longer than ${MAX_PATH_BYTES} bytes`)
  }
  checkText(path, shown)
  const parts = path.split('/')
  if (parts.length > MAX_DEPTH) throw new TreeRefusal(`${shown}: deeper than ${MAX_DEPTH} folders`)
  for (const part of parts) {
    if (part === '' || part === '.' || part === '..') {
      throw new TreeRefusal(`${shown}: a path must be relative, without empty parts, "." and ".."`)
    }
    if (Buffer.byteLength(part) > MAX_NAME_BYTES) {
      throw new TreeRefusal(`${shown}: a name longer than ${MAX_NAME_BYTES} bytes`)
    }
  }
}

/**
 * A link may only lead to something inside the tree. Going up is allowed at the start only: the folders above a link are
 * real ones, so that part is certain, while ".." behind a name could leave the tree through another link of that name.
 */
function checkLinkTarget(path: string, target: string): void {
  const shown = escapeText(path.slice(0, 200))
  if (target === '' || Buffer.byteLength(target) > MAX_PATH_BYTES) {
    throw new TreeRefusal(`${shown}: the link's target is empty or longer than ${MAX_PATH_BYTES} bytes`)
  }
  checkText(target, `${shown}: the link's target`)
  if (target.startsWith('/')) {
    throw new TreeRefusal(`${shown}: an absolute link; ignore or remove it, or make it relative`)
  }
  let up = 0
  let named = false
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') {
      named = true
      continue
    }
    up += 1
    if (named) throw new TreeRefusal(`${shown}: the link goes up again behind a name; write it without that`)
  }
  if (up > path.split('/').length - 1) throw new TreeRefusal(`${shown}: the link leads out of the tree`)
}

function checkText(text: string, shown: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
  if (/[\u0000-\u001f\u007f]/.test(text)) throw new TreeRefusal(`${shown}: control characters in a name`)
  // A lone surrogate would be replaced on its way to bytes.
  if (Buffer.from(text).toString() !== text) throw new TreeRefusal(`${shown}: a name that is not UTF-8`)
}

/**
 * The order of entries: by bytes, with "/" before every other. So what lies in a folder follows it without a gap, and a
 * reader needs to remember the entry before only.
 */
export function comparePaths(a: string, b: string): number {
  return Buffer.compare(sortKey(a), sortKey(b))
}

export function sortEntries(entries: readonly TreeEntry[]): TreeEntry[] {
  return entries
    .map(entry => ({ entry, key: sortKey(entry.path) }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
    .map(({ entry }) => entry)
}

function sortKey(path: string): Buffer {
  return Buffer.from(path.replaceAll('/', '\0'))
}

/** How many folders an entry adds to those of the entry before it. */
export function countNewFolders(before: string | undefined, path: string): number {
  const old = before?.split('/').slice(0, -1) ?? []
  const folders = path.split('/').slice(0, -1)
  const differs = folders.findIndex((name, index) => name !== old[index])
  return differs === -1 ? 0 : folders.length - differs
}
