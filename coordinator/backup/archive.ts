import { createHash } from 'node:crypto'
import { z } from 'zod'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { ByteReader } from '../../shared/tree/byte-reader.ts'
import { TreeRefusal } from '../../shared/tree/tree-refusal.ts'

/*
 * A backup is the line "muster backup 1", then records, then nothing. A record is four bytes with the length of its
 * header, the header in JSON, and for a file its content and the content's SHA-256. The last record is the end: it
 * counts the files and is followed by the SHA-256 of all bytes before that digest. A backup that lacks its end was cut.
 */

const MAGIC = Buffer.from('muster backup 1\n')
const MAX_HEADER_BYTES = 4096
const DIGEST_BYTES = 32
const CHUNK_BYTES = 64 * 1024

const aboutSchema = z.strictObject({
  kind: z.literal('about'),
  version: z.string().max(64),
  schema: z.int().min(1),
  at: z.iso.datetime(),
})
const fileSchema = z.strictObject({
  kind: z.literal('file'),
  path: z.string().max(256),
  size: z.int().min(0),
})
const endSchema = z.strictObject({ kind: z.literal('end'), files: z.int().min(0) })
const headerSchema = z.discriminatedUnion('kind', [aboutSchema, fileSchema, endSchema])

export type AboutBackup = Omit<z.output<typeof aboutSchema>, 'kind'>

export interface ArchiveFile {
  readonly path: string
  readonly size: number
  readonly content: AsyncIterable<Uint8Array>
}

/** Writes a backup in pieces of at most 64 KiB. */
export async function* writeArchive(
  about: AboutBackup,
  files: AsyncIterable<ArchiveFile>,
): AsyncGenerator<Uint8Array> {
  const whole = createHash('sha256')
  let count = 0
  for await (const chunk of encodeRecords(about, files, () => count++)) {
    whole.update(chunk)
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES) yield chunk.subarray(at, at + CHUNK_BYTES)
  }
  const end = encodeHeader({ kind: 'end', files: count })
  yield Buffer.concat([end, whole.update(end).digest()])
}

async function* encodeRecords(
  about: AboutBackup,
  files: AsyncIterable<ArchiveFile>,
  counted: () => void,
): AsyncGenerator<Uint8Array> {
  yield Buffer.concat([MAGIC, encodeHeader({ kind: 'about', ...about })])
  for await (const { path, size, content } of files) {
    counted()
    yield encodeHeader({ kind: 'file', path, size })
    const hash = createHash('sha256')
    let length = 0
    for await (const chunk of content) {
      hash.update(chunk)
      length += chunk.length
      yield chunk
    }
    if (length !== size)
      throw new Error(`${path} has ${length} bytes, not ${size}: it changed while it was copied`)
    yield hash.digest()
  }
}

function encodeHeader(header: z.input<typeof headerSchema>): Buffer {
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.length)
  return Buffer.concat([length, json])
}

/** Takes one file of a backup; throws when it may not stand there. Its content may turn out to be bad afterwards. */
export type TakeFile = (path: string, size: number, content: AsyncIterable<Buffer>) => Promise<void>

/**
 * Reads a backup to its end and hands its files on as they come. Returns only when every byte was checked; until then
 * nothing that was handed on may be used. Refuses what is cut, changed, too many or anything but a backup.
 */
export async function readArchive(
  chunks: AsyncIterable<Uint8Array>,
  mostFiles: number,
  take: TakeFile,
): Promise<AboutBackup> {
  const whole = createHash('sha256')
  const hashed = async function* () {
    for await (const chunk of chunks) yield chunk
  }
  const reader = new ByteReader(hashed())
  const read = async (bytes: number) => {
    const piece = await reader.take(bytes)
    whole.update(piece)
    return piece
  }
  try {
    if (!(await read(MAGIC.length)).equals(MAGIC))
      throw invalid('backup: this is none, or one of a later version')
    const about = await readHeader(read)
    if (about.kind !== 'about') throw invalid('backup: does not say what it is')
    for (let files = 0; ; files++) {
      const header = await readHeader(read)
      if (header.kind === 'about') throw invalid('backup: says twice what it is')
      if (header.kind === 'end') {
        const expected = whole.digest()
        if (header.files !== files || !(await reader.take(DIGEST_BYTES)).equals(expected)) {
          throw invalid('backup: damaged, its digest is another')
        }
        if (!(await reader.atEnd())) throw invalid('backup: something follows its end')
        const { kind: _, ...rest } = about
        return rest
      }
      if (files >= mostFiles) throw invalid(`backup: more than ${mostFiles} files`)
      const hash = createHash('sha256')
      await take(header.path, header.size, hashing(reader.read(header.size), [hash, whole]))
      if (!(await read(DIGEST_BYTES)).equals(hash.digest())) {
        throw invalid(`backup: ${header.path} is damaged, its digest is another`)
      }
    }
  } catch (error) {
    if (error instanceof TreeRefusal) throw invalid('backup: ends in the middle')
    throw error
  } finally {
    await reader.close()
  }
}

async function* hashing(
  pieces: AsyncIterable<Buffer>,
  hashes: readonly { update(bytes: Buffer): unknown }[],
): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    for (const hash of hashes) hash.update(piece)
    yield piece
  }
}

async function readHeader(read: (bytes: number) => Promise<Buffer>) {
  const length = (await read(4)).readUInt32BE()
  if (length > MAX_HEADER_BYTES) throw invalid('backup: damaged, a header is too long')
  const text = (await read(length)).toString()
  try {
    return headerSchema.parse(JSON.parse(text))
  } catch {
    throw invalid('backup: damaged, a header is not readable')
  }
}
