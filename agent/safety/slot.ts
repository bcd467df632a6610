import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { readFileIfThere, syncDirectory } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { sha256Hex } from '../../shared/ids.ts'

/**
 * A slot is a file of one block that holds one JSON value. Its block is taken when the operation is accepted, so that
 * what happened can still be written when the disk is full: a slot is overwritten in place, never made anew. (On a file
 * system that copies on write this needs a block at that moment after all; the NixOS module has btrfs not do so.)
 * INVARIANTS: a slot is empty or holds a whole value; one that was torn by a power cut is told from both.
 */
export type SlotReading =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'empty' }
  /** There is no such file: nothing was ever reserved. */
  | { readonly kind: 'missing' }
  | { readonly kind: 'damaged'; readonly reason: string }

export const SLOT_BYTES = 4096
/** A checksum, a space, and the line end. */
const FRAME_BYTES = 64 + 1 + 1
export const MOST_SLOT_JSON_BYTES = SLOT_BYTES - FRAME_BYTES

/** Takes the space; an existing slot keeps what it holds. Durable when it returns. */
export async function reserveSlot(path: string): Promise<void> {
  if ((await readSlot(path)).kind !== 'missing') return
  const temporary = join(dirname(path), `.${basename(path)}.tmp`)
  await rm(temporary, { force: true })
  const handle = await open(temporary, 'wx', 0o600)
  try {
    await handle.writeFile(Buffer.alloc(SLOT_BYTES, ' '))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}

/** Writes a value into a reserved slot; durable when it returns. A value that is too long is an error. */
export async function writeSlot(path: string, value: unknown): Promise<void> {
  const json = JSON.stringify(value)
  const length = Buffer.byteLength(json)
  if (length > MOST_SLOT_JSON_BYTES) throw new Error(`${path}: ${length} bytes do not fit into a slot`)
  await overwrite(
    path,
    Buffer.from(`${sha256Hex(json)} ${json}${' '.repeat(MOST_SLOT_JSON_BYTES - length)}\n`),
  )
}

/** Makes a reserved slot empty again. */
export async function clearSlot(path: string): Promise<void> {
  await overwrite(path, Buffer.alloc(SLOT_BYTES, ' '))
}

export async function readSlot(path: string): Promise<SlotReading> {
  let bytes: Buffer | undefined
  try {
    bytes = await readFileIfThere(path)
  } catch (error) {
    return { kind: 'damaged', reason: error instanceof Error ? error.message : String(error) }
  }
  if (bytes === undefined) return { kind: 'missing' }
  const text = bytes.toString('utf8').trim()
  if (text === '') return { kind: 'empty' }
  const json = text.slice(65)
  if (text[64] !== ' ' || sha256Hex(json) !== text.slice(0, 64)) {
    return { kind: 'damaged', reason: `${path}: its checksum is wrong` }
  }
  try {
    const value: unknown = JSON.parse(json)
    return { kind: 'value', value }
  } catch {
    return { kind: 'damaged', reason: `${path}: is not JSON` }
  }
}

async function overwrite(path: string, bytes: Buffer): Promise<void> {
  const handle = await open(path, 'r+').catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) throw new Error(`${path}: was not reserved`, { cause: error })
    throw error
  })
  try {
    await handle.write(bytes, 0, bytes.length, 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
}
