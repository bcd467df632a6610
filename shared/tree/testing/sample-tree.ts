import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { END_OF_TREE, encodeHeader, paddingOf } from '../tar-header.ts'
import type { TreeEntry } from '../tree-entry.ts'

/* Trees for tests, also such as no packer would write. */

export async function writeIn(
  dir: string,
  path: string,
  content: string | Buffer,
  mode = 0o644,
): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true })
  await writeFile(join(dir, path), content)
  await chmod(join(dir, path), mode)
}

export async function* chunks(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** The packed form of entries that no packer may have wanted to write. */
export function pack(entries: readonly (TreeEntry & { content?: string })[]): Buffer {
  const parts = entries.flatMap(entry => {
    const content = Buffer.from(entry.content ?? '')
    return [encodeHeader(entry), content, Buffer.alloc(paddingOf(content.length))]
  })
  return Buffer.concat([...parts, END_OF_TREE])
}

export const file = (path: string, content = ''): TreeEntry & { content: string } => ({
  kind: 'file',
  path,
  size: Buffer.byteLength(content),
  executable: false,
  content,
})
export const link = (path: string, target: string): TreeEntry => ({ kind: 'link', path, target })
