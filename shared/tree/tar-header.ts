import type { TreeEntry } from './tree-entry.ts'
import { MAX_PATH_BYTES } from './tree-limits.ts'
import { TreeRefusal } from './tree-refusal.ts'

/*
 * A packed tree is a POSIX tar archive that any tar reads, in the one form this file writes:
 *
 * - an entry is a regular file (type 0, mode 0644 or 0755) or a symbolic link (type 2, mode 0777); owner and group 0,
 *   no names, time 1, no device numbers, no prefix, magic "ustar" and version "00";
 * - a path or link target of more than 100 bytes stands in a pax header (type x, named "pax") right before its entry,
 *   with the records "path", then "linkpath", and nothing else; the entry's own field keeps its first 100 bytes;
 * - content is padded with zeros to 512 bytes; two blocks of zeros end the archive, and nothing follows.
 *
 * A reader encodes what it understood and compares the bytes, so there is no second way to write the same tree.
 */

export const BLOCK_BYTES = 512
export const END_OF_TREE = Buffer.alloc(2 * BLOCK_BYTES)
const FIELD_BYTES = 100
/** Two records of a longest path and their keys. */
export const MAX_PAX_BYTES = 2 * (MAX_PATH_BYTES + 32)

/** What stands before an entry's content. */
export function encodeHeader(entry: TreeEntry): Buffer {
  const path = Buffer.from(entry.path)
  const target = Buffer.from(entry.kind === 'link' ? entry.target : '')
  const records = Buffer.concat([
    path.length > FIELD_BYTES ? encodeRecord('path', path) : Buffer.alloc(0),
    target.length > FIELD_BYTES ? encodeRecord('linkpath', target) : Buffer.alloc(0),
  ])
  const mode = entry.kind === 'link' ? 0o777 : entry.executable ? 0o755 : 0o644
  const size = entry.kind === 'link' ? 0 : entry.size
  const block = encodeBlock({ name: path, mode, size, type: entry.kind === 'link' ? '2' : '0', target })
  if (records.length === 0) return block
  const pax = {
    name: Buffer.from('pax'),
    mode: 0o644,
    size: records.length,
    type: 'x',
    target: Buffer.alloc(0),
  }
  return Buffer.concat([encodeBlock(pax), records, Buffer.alloc(paddingOf(records.length)), block])
}

/** How many zeros follow this much content. */
export function paddingOf(bytes: number): number {
  return (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES
}

/** How many bytes an entry takes, with its header and padding. */
export function packedLength(entry: TreeEntry): number {
  const size = entry.kind === 'file' ? entry.size : 0
  return encodeHeader(entry).length + size + paddingOf(size)
}

interface Block {
  readonly name: Buffer
  readonly mode: number
  readonly size: number
  readonly type: string
  readonly target: Buffer
}

function encodeBlock({ name, mode, size, type, target }: Block): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES)
  name.copy(block, 0, 0, FIELD_BYTES)
  block.write(octal(mode, 7), 100, 'latin1')
  block.write(octal(0, 7), 108, 'latin1')
  block.write(octal(0, 7), 116, 'latin1')
  block.write(octal(size, 11), 124, 'latin1')
  block.write(octal(1, 11), 136, 'latin1')
  block.fill(' ', 148, 156)
  block.write(type, 156, 'latin1')
  target.copy(block, 157, 0, FIELD_BYTES)
  block.write('ustar\x0000', 257, 'latin1')
  block.write(octal(0, 7), 329, 'latin1')
  block.write(octal(0, 7), 337, 'latin1')
  let sum = 0
  for (let at = 0; at < BLOCK_BYTES; at++) sum += block[at] ?? 0
  block.write(`${octal(sum, 6)}\0 `, 148, 'latin1')
  return block
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}

function encodeRecord(key: string, value: Buffer): Buffer {
  const rest = ` ${key}=`.length + value.length + 1
  // The length counts its own digits.
  let length = rest + String(rest).length
  length = rest + String(length).length
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from('\n')])
}

/** One header block as it claims to be; the caller compares bytes before it believes any of it. */
export interface ParsedBlock {
  readonly type: string
  readonly name: string
  readonly target: string
  readonly size: number
  readonly executable: boolean
}

export function parseBlock(block: Buffer): ParsedBlock {
  const size = block.toString('latin1', 124, 135)
  if (!/^[0-7]{11}$/.test(size)) throw new TreeRefusal('a header is not in the form this program writes')
  return {
    type: block.toString('latin1', 156, 157),
    name: decodeText(untilNul(block.subarray(0, FIELD_BYTES))),
    target: decodeText(untilNul(block.subarray(157, 157 + FIELD_BYTES))),
    size: Number.parseInt(size, 8),
    executable: block.toString('latin1', 100, 107) === octal(0o755, 7),
  }
}

/** The records of a pax header; unknown ones vanish here and are noticed when the bytes are compared. */
export function parseRecords(bytes: Buffer): { path?: string; linkpath?: string } {
  const records: { path?: string; linkpath?: string } = {}
  for (let at = 0; at < bytes.length; ) {
    const [head, digits, key] =
      /^([1-9][0-9]{0,5}) ([a-z]+)=/.exec(bytes.toString('latin1', at, at + 32)) ?? []
    const end = at + Number(digits)
    if (!head || end > bytes.length || end <= at + head.length || bytes[end - 1] !== 0x0a) {
      throw new TreeRefusal('a pax header is not in the form this program writes')
    }
    const value = decodeText(bytes.subarray(at + head.length, end - 1), true)
    if (key === 'path' || key === 'linkpath') records[key] = value
    at = end
  }
  return records
}

function untilNul(field: Buffer): Buffer {
  const end = field.indexOf(0)
  return end === -1 ? field : field.subarray(0, end)
}

/** A field may be cut in the middle of a character when a pax header has the whole; what is wrong then shows in the bytes. */
function decodeText(bytes: Buffer, strict = false): string {
  const text = bytes.toString('utf8')
  if (strict && !Buffer.from(text).equals(bytes)) throw new TreeRefusal('a name is not UTF-8')
  return text
}
