import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sha256Hex } from '../../shared/ids.ts'
import { type BlobName, type Blobs, DamagedBlobError, openBlobs } from './blobs.ts'

let folder: string
let blobs: Blobs

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-blobs-'))
  blobs = await openBlobs(folder)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const nameOf = (bytes: Uint8Array): BlobName => ({ digest: sha256Hex(bytes), length: bytes.length })
const pathOf = (digest: string) => join(folder, 'sha256', digest.slice(0, 2), digest)

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function readAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all)
}

describe('blobs', () => {
  it('gives back from any offset what was put in, in pieces of at most 64 KiB', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 300_000 }),
        fc.integer({ min: 1000, max: 70_000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (length, piece, share) => {
          const bytes = Buffer.alloc(length, `content ${length} `)
          const blob = nameOf(bytes)
          await blobs.put(blob, inPieces(bytes, piece))
          const offset = Math.floor(share * length)
          const sizes: number[] = []
          const all: Uint8Array[] = []
          for await (const chunk of blobs.read(blob, offset)) {
            sizes.push(chunk.length)
            all.push(chunk)
          }
          expect(Buffer.concat(all).equals(bytes.subarray(offset))).toBe(true)
          expect(Math.max(0, ...sizes)).toBeLessThanOrEqual(64 * 1024)
          expect(await blobs.has(blob)).toBe(true)
        },
      ),
      { numRuns: 20 },
    )
  })

  it('refuses a tree that is shorter, longer or other than its name says, and keeps nothing of it', async () => {
    const bytes = Buffer.alloc(100_000, 'tree')
    const blob = nameOf(bytes)
    const flipped = Buffer.from(bytes)
    flipped[50_000]! ^= 1
    await expect(blobs.put(blob, inPieces(bytes.subarray(1), 9000))).rejects.toThrow('ends after 99999')
    await expect(blobs.put(blob, inPieces(Buffer.concat([bytes, bytes]), 9000))).rejects.toThrow(
      'longer than',
    )
    await expect(blobs.put(blob, inPieces(flipped, 9000))).rejects.toThrow('its digest is not')
    await expect(blobs.put({ ...blob, digest: '../../etc' }, inPieces(bytes, 9))).rejects.toThrow(
      'tree_digest',
    )
    expect(await blobs.has(blob)).toBe(false)
    expect(await readdir(join(folder, 'incoming'))).toEqual([])
    expect(await readdir(join(folder, 'sha256'))).toEqual([])
  })

  it('never hands out the end of a blob that was damaged on disk', async () => {
    const bytes = Buffer.alloc(200_000, 'tree')
    const blob = nameOf(bytes)
    await blobs.put(blob, inPieces(bytes, 60_000))
    const stored = await readFile(pathOf(blob.digest))
    stored[10]! ^= 0x20
    await writeFile(pathOf(blob.digest), stored)
    const received: Uint8Array[] = []
    const reading = async () => {
      for await (const chunk of blobs.read(blob)) received.push(chunk)
    }
    await expect(reading()).rejects.toThrow(DamagedBlobError)
    expect(Buffer.concat(received).length).toBeLessThan(bytes.length)
    await writeFile(pathOf(blob.digest), bytes.subarray(1))
    await expect(readAll(blobs.read(blob))).rejects.toThrow('199999 bytes instead of 200000')
    expect(await blobs.has(blob)).toBe(false)
    await rm(pathOf(blob.digest))
    await expect(readAll(blobs.read(blob))).rejects.toThrow('is missing')
  })

  it('sweeps unfinished files and blobs that no revision names, and only those', async () => {
    const kept = Buffer.from('kept')
    const orphan = Buffer.from('orphan of a kill between blob and row')
    await blobs.put(nameOf(kept), inPieces(kept, 10))
    await blobs.put(nameOf(orphan), inPieces(orphan, 10))
    await writeFile(join(folder, 'incoming', 'cut'), 'half')
    expect(await blobs.sweep(new Set([nameOf(kept).digest]))).toBe(2)
    expect(await blobs.has(nameOf(kept))).toBe(true)
    expect(await blobs.has(nameOf(orphan))).toBe(false)
    expect(await readdir(join(folder, 'incoming'))).toEqual([])
  })
})
