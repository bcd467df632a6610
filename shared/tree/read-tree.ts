import { escapeText } from '../escape.ts'
import { ByteReader } from './byte-reader.ts'
import {
  BLOCK_BYTES,
  encodeHeader,
  MAX_PAX_BYTES,
  type ParsedBlock,
  paddingOf,
  parseBlock,
  parseRecords,
} from './tar-header.ts'
import { checkEntry, comparePaths, countNewFolders, type TreeEntry } from './tree-entry.ts'
import { MAX_ENTRIES } from './tree-limits.ts'
import { TreeRefusal } from './tree-refusal.ts'

const ZEROS = Buffer.alloc(BLOCK_BYTES)

/** An entry and its content, which must be read to its end before the next entry is asked for. */
export interface TreeItem {
  readonly entry: TreeEntry
  readonly content: AsyncIterable<Buffer>
}

/**
 * Reads a packed tree, entry by entry. Throws a TreeRefusal at the first byte that is not as the packer would have
 * written it. It bounds entries and folders; whoever calls it bounds the stream.
 */
export async function* readTree(source: AsyncIterable<Uint8Array>): AsyncGenerator<TreeItem> {
  const reader = new ByteReader(source)
  try {
    yield* readItems(reader)
  } finally {
    await reader.close()
  }
}

async function* readItems(reader: ByteReader): AsyncGenerator<TreeItem> {
  let before: TreeEntry | undefined
  let entries = 0
  let folders = 0
  for (;;) {
    const entry = await readHeader(reader)
    if (!entry) break
    checkEntry(entry)
    checkOrder(before, entry)
    entries += 1
    folders += countNewFolders(before?.path, entry.path)
    if (entries > MAX_ENTRIES || folders > MAX_ENTRIES) {
      throw new TreeRefusal(`more than ${MAX_ENTRIES} entries or folders`)
    }
    before = entry
    const size = entry.kind === 'file' ? entry.size : 0
    let left = size
    const content = (async function* () {
      for await (const piece of reader.read(size)) {
        left -= piece.length
        yield piece
      }
    })()
    yield { entry, content }
    if (left > 0) throw new Error('the content of an entry was not read to its end')
    if (!isZero(await reader.take(paddingOf(size)))) throw new TreeRefusal('padding is not zero')
  }
  if (!isZero(await reader.take(BLOCK_BYTES))) throw new TreeRefusal('something follows the end of the tree')
  if (!(await reader.atEnd())) throw new TreeRefusal('something follows the end of the tree')
}

async function readHeader(reader: ByteReader): Promise<TreeEntry | undefined> {
  const first = await reader.take(BLOCK_BYTES)
  if (isZero(first)) return undefined
  const parsed = parseBlock(first)
  if (parsed.type !== 'x') return checkCanonical(entryOf(parsed, {}), [first])
  if (parsed.size > MAX_PAX_BYTES) throw new TreeRefusal('a pax header is too long')
  const records = await reader.take(parsed.size)
  const padding = await reader.take(paddingOf(parsed.size))
  const second = await reader.take(BLOCK_BYTES)
  return checkCanonical(entryOf(parseBlock(second), parseRecords(records)), [first, records, padding, second])
}

function entryOf(block: ParsedBlock, records: { path?: string; linkpath?: string }): TreeEntry {
  const path = records.path ?? block.name
  switch (block.type) {
    case '0':
      return { kind: 'file', path, size: block.size, executable: block.executable }
    case '2':
      return { kind: 'link', path, target: records.linkpath ?? block.target }
    default:
      throw new TreeRefusal(
        `${escapeText(path.slice(0, 200))}: neither a file nor a symbolic link (type ${escapeText(block.type)})`,
      )
  }
}

function checkCanonical(entry: TreeEntry, read: readonly Buffer[]): TreeEntry {
  if (encodeHeader(entry).equals(Buffer.concat(read))) return entry
  throw new TreeRefusal(
    `${escapeText(entry.path.slice(0, 200))}: its header is not in the form this program writes`,
  )
}

function checkOrder(before: TreeEntry | undefined, entry: TreeEntry): void {
  if (!before) return
  if (comparePaths(before.path, entry.path) >= 0) {
    throw new TreeRefusal(`${escapeText(entry.path.slice(0, 200))}: stands there twice or out of order`)
  }
  // By the order of entries, what lies below a file would follow it at once.
  if (entry.path.startsWith(`${before.path}/`)) {
    throw new TreeRefusal(`${escapeText(entry.path.slice(0, 200))}: lies below something that is no folder`)
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length))
}
