import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { readTree } from './read-tree.ts'
import { MAX_TREE_BYTES } from './tree-limits.ts'
import { TreeRefusal } from './tree-refusal.ts'

const CHUNK_BYTES = 64 * 1024

/** What the signed manifest says of a packed tree. */
export interface ExpectedTree {
  readonly digest: string
  readonly length: number
}

export type TreeCheck =
  | { readonly kind: 'ok' }
  | { readonly kind: 'refused'; readonly class: TreeRefusalClass; readonly reason: string }

export type TreeRefusalClass = 'length' | 'digest' | 'malformed'

export interface ReceiveInput extends ExpectedTree {
  /** Where the packed tree goes; what an interrupted download left there is gone on with. */
  readonly file: string
  /** Opens the stream, without its first `offset` bytes. */
  readonly openSource: (offset: number) => AsyncIterable<Uint8Array>
}

/**
 * Downloads a packed tree into a file, with digest and length checked on the way: at no time more than the announced
 * length is taken, and what turns out wrong is deleted. A stream that breaks throws; calling again continues.
 * The file has one writer at a time: the caller's operation.
 */
export async function receiveTree(input: ReceiveInput): Promise<TreeCheck> {
  const { file, digest, length } = input
  if (length > MAX_TREE_BYTES) return refused('length', `packed tree: more than ${MAX_TREE_BYTES} bytes`)
  const handle = await open(file, 'a+', 0o600)
  try {
    const hash = createHash('sha256')
    let received = 0
    for await (const chunk of readAll(handle)) {
      hash.update(chunk)
      received += chunk.length
    }
    if (received < length) {
      for await (const chunk of input.openSource(received)) {
        received += chunk.length
        if (received > length) break
        hash.update(chunk)
        await handle.appendFile(chunk)
      }
    }
    if (received < length) {
      throw new Error(`packed tree: the stream ended after ${received} of ${length} bytes`)
    }
    const check = compare({ digest: hash.digest('hex'), length: received }, { digest, length })
    if (check.kind === 'ok') await handle.sync()
    else await rm(file, { force: true })
    return check
  } finally {
    await handle.close()
  }
}

/** Checks a packed tree whole, without writing any of it: digest, length, and that every machine could unpack it. */
export async function checkTree(
  source: AsyncIterable<Uint8Array>,
  expected: ExpectedTree,
): Promise<TreeCheck> {
  const hash = createHash('sha256')
  let length = 0
  const counted = (async function* () {
    for await (const chunk of source) {
      length += chunk.length
      if (length > expected.length) throw new LengthRefusal('packed tree: longer than the manifest says')
      hash.update(chunk)
      yield chunk
    }
  })()
  try {
    for await (const { content } of readTree(counted)) {
      for await (const _ of content) {
        // Only whether it can be read is wanted.
      }
    }
  } catch (error) {
    if (error instanceof LengthRefusal) return refused('length', error.message)
    if (error instanceof TreeRefusal) return refused('malformed', `packed tree: ${error.message}`)
    throw error
  }
  return compare({ digest: hash.digest('hex'), length }, expected)
}

/** Digest and length of an open file against what was announced. */
export async function checkFile(handle: FileHandle, expected: ExpectedTree): Promise<TreeCheck> {
  // Before anything is read, so that a wrong file costs nothing.
  const { size } = await handle.stat()
  if (size !== expected.length) return compare({ digest: '', length: size }, expected)
  const hash = createHash('sha256')
  for await (const chunk of readAll(handle)) hash.update(chunk)
  return compare({ digest: hash.digest('hex'), length: size }, expected)
}

/**
 * The content of an open file from its beginning; the handle stays open. A chunk is valid until the next is asked for:
 * one buffer serves them all, so that a tree of any size leaves the agent small.
 */
export async function* readAll(handle: FileHandle): AsyncGenerator<Buffer> {
  const buffer = Buffer.alloc(CHUNK_BYTES)
  for (let position = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, position)
    if (bytesRead === 0) return
    position += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

/** The content of a file as a stream, for `checkTree` and for sending. */
export function readTreeFile(file: string, offset = 0): AsyncIterable<Buffer> {
  return createReadStream(file, { start: offset })
}

class LengthRefusal extends Error {
  override readonly name = 'LengthRefusal'
}

function compare(found: ExpectedTree, expected: ExpectedTree): TreeCheck {
  if (found.length !== expected.length) {
    return refused('length', `packed tree: ${found.length} bytes, the manifest says ${expected.length}`)
  }
  return found.digest === expected.digest
    ? { kind: 'ok' }
    : refused('digest', 'packed tree: is not the one the manifest names')
}

function refused(kind: TreeRefusalClass, reason: string): TreeCheck {
  return { kind: 'refused', class: kind, reason }
}
