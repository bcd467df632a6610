import { createHash, randomBytes } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory, syncDirectory } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { isDigest } from '../../shared/ids.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'

const MAX_BLOB_BYTES = 256 * 1024 * 1024
const CHUNK_BYTES = 64 * 1024

/** What a blob is known by. */
export interface BlobName {
  /** SHA-256 (hex) of the content. */
  readonly digest: string
  /** Bytes. */
  readonly length: number
}

/** A stored blob is not what its name says: a disk fault, or somebody wrote to it. */
export class DamagedBlobError extends Error {
  override readonly name = 'DamagedBlobError'
}

/**
 * Content-addressed files below one folder.
 * INVARIANTS: a file under its final name was whole, synced and had its digest when it was put there; a reader never
 * gets the last piece of a blob whose bytes do not have the digest, so nobody takes a damaged one for complete.
 */
export interface Blobs {
  readonly directory: string
  /** Whether a blob of this name and length is there; its content is checked when it is read. */
  has(blob: BlobName): Promise<boolean>
  /** Stores what `chunks` bring, when it is exactly the blob named; otherwise throws and keeps nothing. */
  put(blob: BlobName, chunks: AsyncIterable<Uint8Array>): Promise<void>
  /** The content from `offset`, in pieces of at most 64 KiB. */
  read(blob: BlobName, offset?: number): AsyncIterable<Uint8Array>
  /** Removes unfinished files and every blob that is not in `keep`. Only while nobody publishes: at start. */
  sweep(keep: ReadonlySet<string>): Promise<number>
}

export async function openBlobs(directory: string): Promise<Blobs> {
  const root = join(directory, 'sha256')
  const incoming = join(directory, 'incoming')
  await makePrivateDirectory(root)
  await makePrivateDirectory(incoming)
  const pathOf = (digest: string) => join(root, digest.slice(0, 2), digest)
  return {
    directory,
    async has({ digest, length }) {
      if (!isDigest(digest)) return false
      try {
        const found = await stat(pathOf(digest))
        return found.isFile() && found.size === length
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return false
        throw error
      }
    },
    async put(blob, chunks) {
      checkName(blob)
      const temporary = join(incoming, randomBytes(12).toString('hex'))
      try {
        await writeChecked(temporary, blob, chunks)
        const path = pathOf(blob.digest)
        const folder = join(root, blob.digest.slice(0, 2))
        await makePrivateDirectory(folder)
        await rename(temporary, path)
        await syncDirectory(folder)
        await syncDirectory(root)
      } finally {
        await rm(temporary, { force: true })
      }
    },
    read: (blob, offset = 0) => readChecked(pathOf(blob.digest), blob, offset),
    async sweep(keep) {
      let removed = 0
      for (const name of await readdir(incoming)) {
        await rm(join(incoming, name), { force: true, recursive: true })
        removed++
      }
      for (const prefix of await readdir(root)) {
        for (const name of await readdir(join(root, prefix))) {
          if (keep.has(name)) continue
          await rm(join(root, prefix, name), { force: true })
          removed++
        }
      }
      return removed
    },
  }
}

function checkName({ digest, length }: BlobName): void {
  if (!isDigest(digest)) throw invalid('tree_digest: must be 64 lower-case hex characters')
  if (!Number.isSafeInteger(length) || length < 1 || length > MAX_BLOB_BYTES) {
    throw invalid(`tree_length: must be from 1 to ${MAX_BLOB_BYTES} bytes`)
  }
}

async function writeChecked(path: string, blob: BlobName, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    const hash = createHash('sha256')
    let length = 0
    for await (const chunk of chunks) {
      length += chunk.length
      if (length > blob.length) throw invalid(`tree: longer than the ${blob.length} bytes of the manifest`)
      hash.update(chunk)
      await file.writeFile(chunk)
    }
    if (length < blob.length) {
      throw invalid(`tree: ends after ${length} of the ${blob.length} bytes of the manifest`)
    }
    if (hash.digest('hex') !== blob.digest) {
      throw invalid('tree: its digest is not the one of the manifest')
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

async function* readChecked(path: string, blob: BlobName, offset: number): AsyncGenerator<Uint8Array> {
  const file = await openBlob(path, blob)
  try {
    const { size } = await file.stat()
    if (size !== blob.length) {
      throw new DamagedBlobError(
        `${path} has ${size} bytes instead of ${blob.length}: restore it from a backup`,
      )
    }
    // What is skipped is read as well: the digest is of the whole.
    const hash = createHash('sha256')
    let position = 0
    while (position < size) {
      const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - position))
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position)
      if (bytesRead === 0) throw new DamagedBlobError(`${path} became shorter while it was read`)
      const chunk = buffer.subarray(0, bytesRead)
      hash.update(chunk)
      const start = position
      position += bytesRead
      if (position === size && hash.digest('hex') !== blob.digest) {
        throw new DamagedBlobError(`${path} does not have the digest in its name: restore it from a backup`)
      }
      if (position > offset) yield chunk.subarray(Math.max(0, offset - start))
    }
  } finally {
    await file.close()
  }
}

async function openBlob(path: string, { digest }: BlobName): Promise<FileHandle> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    throw new DamagedBlobError(`blob ${digest} is missing: restore it from a backup`, { cause: error })
  }
}
