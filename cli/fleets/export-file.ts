import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncDirectory } from '../../shared/durable-file.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { makeDirectories } from '../../shared/make-directories.ts'
import { CliError } from '../exit-codes.ts'

/**
 * One file that carries a revision: a first line, then parts, each with a line of JSON that says what it is and how long,
 * then its bytes; the last part holds the SHA-256 of all before it. It only guards against damage: what is believed is
 * the envelope's signatures and the digests they cover.
 */
const MAGIC = 'muster revision export 1\n'
const MAX_HEADER_BYTES = 4096
const CHUNK_BYTES = 64 * 1024

export type PartKind = 'envelope' | 'target' | 'tree' | 'cache'
const KINDS: readonly string[] = ['envelope', 'target', 'tree', 'cache']

/** Where a file is written until all of it is there. */
export const partialOf = (path: string) => `${path}.partial`

/** Refuses a place where no export can be written, before anything is built or signed for it. */
export async function refuseUnwritable(path: string): Promise<void> {
  await (await openPartial(path)).close()
  await rm(partialOf(path), { force: true })
}

export async function refuseThere(path: string): Promise<void> {
  if (await exists(path)) throw new CliError('conflict', `${path}: is there already; it is not overwritten`)
}

async function openPartial(path: string): Promise<FileHandle> {
  await refuseThere(path)
  try {
    await rm(partialOf(path), { force: true })
    return await open(partialOf(path), 'wx', 0o644)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${path}: its folder does not exist`)
    throw new CliError('error', `${path}: cannot be written: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * Writes an export; it appears whole, or not at all. What must be on disk before anybody can hold the file is done in
 * `beforeItAppears`, when all of it is written.
 */
export async function writeExport(
  path: string,
  write: (
    add: (kind: PartKind, name: string, source: Uint8Array | { readonly file: string }) => Promise<void>,
  ) => Promise<void>,
  beforeItAppears: () => Promise<void> = async () => {},
): Promise<void> {
  const partial = partialOf(path)
  const handle = await openPartial(path)
  const hash = createHash('sha256')
  try {
    await append(handle, hash, Buffer.from(MAGIC))
    await write(async (kind, name, source) => {
      const size = source instanceof Uint8Array ? source.length : (await stat(source.file)).size
      await append(handle, hash, Buffer.from(`${JSON.stringify({ kind, name, size })}\n`))
      if (source instanceof Uint8Array) return append(handle, hash, source)
      let written = 0
      for await (const chunk of createReadStream(source.file)) {
        written += chunk.length
        await append(handle, hash, chunk)
      }
      if (written !== size) throw new CliError('error', `${source.file}: changed while it was exported`)
    })
    await handle.appendFile(endLine(hash))
    await handle.sync()
  } catch (error) {
    await handle.close()
    await rm(partial, { force: true })
    throw error
  }
  await handle.close()
  await beforeItAppears()
  await showExport(path)
}

/** Gives a file that is written whole its name. */
export async function showExport(path: string): Promise<void> {
  await rename(partialOf(path), path)
  await syncDirectory(dirname(path))
}

const endLine = (hash: Hash) => `${JSON.stringify({ kind: 'end', name: hash.digest('hex'), size: 0 })}\n`

async function append(handle: FileHandle, hash: Hash, bytes: Uint8Array): Promise<void> {
  hash.update(bytes)
  await handle.appendFile(bytes)
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return false
    throw error
  }
}

export interface Part {
  readonly kind: PartKind
  readonly name: string
  readonly size: number
  /** Where its bytes begin in the file. */
  readonly offset: number
}

/** Reads which parts an export has, and checks that the file is whole. */
export async function readExport(path: string): Promise<readonly Part[]> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${path}: no such file`)
    throw error
  }
  try {
    const hash = createHash('sha256')
    const magic = await readExactly(handle, 0, Math.min(MAGIC.length, (await handle.stat()).size), path)
    if (magic.toString() !== MAGIC)
      throw new CliError('error', `${path}: is no export of \`muster publish --export\``)
    hash.update(magic)
    const parts: Part[] = []
    for (let at = MAGIC.length; ; ) {
      const line = await readLine(handle, at, path)
      const header = parseHeader(line, path)
      if (header.kind === 'end') {
        // To the letter: no digest covers this line itself.
        if (line.toString() !== endLine(hash)) throw damaged(path)
        if ((await handle.stat()).size !== at + line.length) throw damaged(path)
        return parts
      }
      hash.update(line)
      const offset = at + line.length
      for await (const chunk of readRange(handle, offset, header.size, path)) hash.update(chunk)
      parts.push({ kind: header.kind, name: header.name, size: header.size, offset })
      at = offset + header.size
    }
  } finally {
    await handle.close()
  }
}

/** The bytes of one part. */
export async function* readPart(path: string, part: Part): AsyncGenerator<Buffer> {
  const handle = await open(path, 'r')
  try {
    yield* readRange(handle, part.offset, part.size, path)
  } finally {
    await handle.close()
  }
}

/** All bytes of one part. */
export async function readWholePart(path: string, part: Part, most: number): Promise<Buffer> {
  if (part.size > most) throw new CliError('error', `${path}: its ${part.kind} is larger than ${most} bytes`)
  const chunks: Buffer[] = []
  for await (const chunk of readPart(path, part)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function* readRange(
  handle: FileHandle,
  offset: number,
  size: number,
  path: string,
): AsyncGenerator<Buffer> {
  for (let at = 0; at < size; ) {
    const chunk = await readExactly(handle, offset + at, Math.min(CHUNK_BYTES, size - at), path)
    at += chunk.length
    yield chunk
  }
}

async function readExactly(
  handle: FileHandle,
  position: number,
  length: number,
  path: string,
): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  for (let got = 0; got < length; ) {
    const { bytesRead } = await handle.read(buffer, got, length - got, position + got)
    if (bytesRead === 0) throw damaged(path)
    got += bytesRead
  }
  return buffer
}

async function readLine(handle: FileHandle, position: number, path: string): Promise<Buffer> {
  const { bytesRead, buffer } = await handle.read(
    Buffer.alloc(MAX_HEADER_BYTES),
    0,
    MAX_HEADER_BYTES,
    position,
  )
  const end = buffer.subarray(0, bytesRead).indexOf('\n')
  if (end === -1) throw damaged(path)
  return buffer.subarray(0, end + 1)
}

function parseHeader(
  line: Buffer,
  path: string,
): { readonly kind: PartKind | 'end'; readonly name: string; readonly size: number } {
  let header: unknown
  try {
    header = JSON.parse(line.toString())
  } catch {
    throw damaged(path)
  }
  if (typeof header !== 'object' || header === null) throw damaged(path)
  const { kind, name, size } = { kind: undefined, name: undefined, size: undefined, ...header }
  if (!isKind(kind) || typeof name !== 'string' || !isSize(size)) throw damaged(path)
  return { kind, name, size }
}

function isKind(kind: unknown): kind is PartKind | 'end' {
  return kind === 'end' || (typeof kind === 'string' && KINDS.includes(kind))
}

function isSize(size: unknown): size is number {
  return typeof size === 'number' && Number.isSafeInteger(size) && size >= 0
}

function damaged(path: string): CliError {
  return new CliError('error', `${path}: is damaged or not whole; copy it again`)
}

/** The files of a binary cache in a folder, as they are named in it. */
export async function listCache(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const names = entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort()
  // Left out silently, it would be missed where no network is.
  const stranger = names.find(name => !isCacheName(name))
  if (stranger === undefined) return names
  throw new CliError('error', `${join(folder, stranger)}: is no file of a binary cache that is known here`)
}

/** A name in a binary cache: what an export may write to is nothing else. */
export function isCacheName(name: string): boolean {
  return (
    /^nix-cache-info$|^[0-9a-z]{32}\.narinfo$|^nar\/[0-9a-z]{20,64}\.nar(\.[a-z0-9]{1,5})?$/.test(name) ||
    /^(realisations|log|debuginfo)\/[A-Za-z0-9._!:+-]{1,255}$/.test(name)
  )
}

/** Writes the cache of an export into a folder. */
export async function unpackCache(path: string, parts: readonly Part[], folder: string): Promise<number> {
  const files = parts.filter(({ kind }) => kind === 'cache')
  for (const part of files) {
    if (!isCacheName(part.name))
      throw new CliError('refused', `${path}: holds a file whose name is none of a binary cache`)
  }
  await makeDirectories(join(folder, 'nar'))
  for (const part of files) {
    const to = join(folder, part.name)
    await makeDirectories(dirname(to))
    const partial = `${to}.partial`
    await rm(partial, { force: true })
    const handle = await open(partial, 'wx', 0o644)
    try {
      for await (const chunk of readPart(path, part)) await handle.appendFile(chunk)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(partial, to)
  }
  return files.length
}
