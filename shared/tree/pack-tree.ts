import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { reasonOf } from '../errors.ts'
import { escapeText } from '../escape.ts'
import { listTree, type TreeListing } from './list-tree.ts'
import { END_OF_TREE, encodeHeader, paddingOf } from './tar-header.ts'
import { TreeRefusal } from './tree-refusal.ts'

const CHUNK_BYTES = 64 * 1024

export type PackedTree =
  | {
      readonly kind: 'packed'
      /** SHA-256 (hex) of the packed tree. */
      readonly digest: string
      readonly length: number
      readonly entries: number
      /** Paths of what are neither folders nor links. */
      readonly files: ReadonlySet<string>
      /** Those of them that can be executed. */
      readonly executables: ReadonlySet<string>
      readonly notes: readonly string[]
    }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Packs a fleet directory; equal files give equal bytes, wherever and whenever it runs. With `file` the packed tree is
 * written there (it must not exist yet), without it only digested.
 */
export async function packTree(dir: string, file?: string): Promise<PackedTree> {
  try {
    const listing = await listTree(dir)
    const hash = createHash('sha256')
    const digested = (async function* () {
      for await (const chunk of streamTree(listing)) {
        hash.update(chunk)
        yield chunk
      }
    })()
    if (file === undefined) await drain(digested)
    else await writeNew(file, digested)
    const { length, entries, notes } = listing
    const regular = entries.filter(entry => entry.kind === 'file')
    const files = new Set(regular.map(({ path }) => path))
    const executables = new Set(regular.filter(({ executable }) => executable).map(({ path }) => path))
    const digest = hash.digest('hex')
    return { kind: 'packed', digest, length, entries: entries.length, files, executables, notes }
  } catch (error) {
    if (error instanceof TreeRefusal) return { kind: 'refused', reason: error.message }
    throw new Error(`${dir}: could not be packed: ${reasonOf(error)}`, { cause: error })
  }
}

/** The bytes of the packed tree. A file that changed since it was listed ends the stream with a TreeRefusal. */
export async function* streamTree({ dir, entries }: TreeListing): AsyncGenerator<Uint8Array> {
  for (const entry of entries) {
    yield encodeHeader(entry)
    if (entry.kind === 'link') continue
    yield* readContent(join(dir, entry.path), entry.path, entry.size)
    if (paddingOf(entry.size) > 0) yield Buffer.alloc(paddingOf(entry.size))
  }
  yield END_OF_TREE
}

async function* readContent(full: string, path: string, size: number): AsyncGenerator<Uint8Array> {
  // A file replaced by a link or a pipe since the listing must neither be followed nor waited for.
  const handle = await open(full, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const stat = await handle.stat()
    let left = size
    while (stat.isFile() && left > 0) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(Math.min(CHUNK_BYTES, left)))
      if (bytesRead === 0) break
      left -= bytesRead
      yield buffer.subarray(0, bytesRead)
    }
    const more = stat.isFile() ? await handle.read(Buffer.alloc(1)) : undefined
    if (left > 0 || more?.bytesRead !== 0) {
      throw new TreeRefusal(`${escapeText(path)}: changed while it was packed; try again`)
    }
  } finally {
    await handle.close()
  }
}

async function writeNew(file: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    for await (const chunk of source) await handle.writeFile(chunk)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function drain(source: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of source) {
    // Only the digest on the way is wanted.
  }
}
