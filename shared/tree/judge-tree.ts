import { hasCode, reasonOf } from '../errors.ts'
import { listTree } from './list-tree.ts'
import { GitMissing, TreeRefusal } from './tree-refusal.ts'

export type TreeVerdict =
  | { readonly kind: 'good' }
  | { readonly kind: 'refused'; readonly reason: string }
  /** Which files would be packed cannot be told here. */
  | { readonly kind: 'unknown'; readonly reason: string }

/** Whether the files of a fleet directory could be packed, without reading what is in them. */
export async function judgeTree(dir: string): Promise<TreeVerdict> {
  try {
    await listTree(dir)
    return { kind: 'good' }
  } catch (error) {
    if (error instanceof GitMissing) return { kind: 'unknown', reason: error.message }
    if (error instanceof TreeRefusal) return { kind: 'refused', reason: error.message }
    if (hasCode(error, 'EACCES')) return { kind: 'refused', reason: reasonOf(error) }
    throw error
  }
}
