import { createHash } from 'node:crypto'
import { readTree } from '../../shared/tree/read-tree.ts'
import { TreeRefusal } from '../../shared/tree/tree-refusal.ts'
import { CliError } from '../exit-codes.ts'
import { FLEET_FILE } from './read-fleet-directory.ts'

/** What a packed tree holds: for each path what identifies its content. */
export type TreeContent = ReadonlyMap<string, string>

export interface FileChange {
  readonly path: string
  readonly change: 'added' | 'removed' | 'changed'
}

/** Digests every file of a packed tree, with the whole checked against what was signed. Nothing is written. */
export async function readTreeContent(
  source: AsyncIterable<Uint8Array>,
  expected: { readonly digest: string; readonly length: number; readonly place: string },
): Promise<{ readonly tree: TreeContent; readonly fleetFile: string | undefined }> {
  const whole = createHash('sha256')
  let length = 0
  const counted = (async function* () {
    for await (const chunk of source) {
      length += chunk.length
      if (length > expected.length) throw new TreeRefusal('longer than the manifest says')
      whole.update(chunk)
      yield chunk
    }
  })()
  const tree = new Map<string, string>()
  let fleetFile: string | undefined
  try {
    for await (const { entry, content } of readTree(counted)) {
      if (entry.kind === 'link') {
        tree.set(entry.path, `link ${entry.target}`)
        continue
      }
      const hash = createHash('sha256')
      const kept: Buffer[] = []
      for await (const piece of content) {
        hash.update(piece)
        if (entry.path === FLEET_FILE) kept.push(Buffer.from(piece))
      }
      if (entry.path === FLEET_FILE) fleetFile = Buffer.concat(kept).toString()
      tree.set(entry.path, `${entry.executable ? 'executable' : 'file'} ${hash.digest('hex')}`)
    }
  } catch (error) {
    if (error instanceof TreeRefusal) throw new CliError('refused', `${expected.place}: ${error.message}`)
    throw error
  }
  if (length !== expected.length || whole.digest('hex') !== expected.digest) {
    throw new CliError('refused', `${expected.place}: the tree is not the one that was signed`)
  }
  return { tree, fleetFile }
}

/** Which files differ, sorted by path. */
export function diffFiles(older: TreeContent, newer: TreeContent): FileChange[] {
  return [...new Set([...older.keys(), ...newer.keys()])].sort().flatMap((path): FileChange[] => {
    const before = older.get(path)
    const after = newer.get(path)
    if (before === after) return []
    return [{ path, change: before === undefined ? 'added' : after === undefined ? 'removed' : 'changed' }]
  })
}
