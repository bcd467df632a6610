import type { ClusterFiles } from './node/cluster-files.ts'

/** A folder, and where it lies while something else is put in its place. */
export type Aside = readonly [folder: string, aside: string]

/**
 * Makes room for what a restore brings, and keeps what was there until the next one. Done again by an operation that was cut
 * off, it takes only what that one had half made: what it set aside is the last copy there is.
 */
export async function setAside(
  files: ClusterFiles,
  operation: string,
  folders: readonly Aside[],
): Promise<void> {
  if ((await files.readMark('set-aside')) !== operation) {
    for (const [, aside] of folders) await files.remove(aside)
    await files.mark('set-aside', operation)
  }
  for (const [folder, aside] of folders) {
    if ((await files.list(aside)).length > 0) await files.remove(folder)
    else await files.move(folder, aside)
  }
}

/** Puts back what this operation set aside, when nothing came in its place; what another one set aside is older, and stays there. */
export async function putBack(
  files: ClusterFiles,
  operation: string,
  folders: readonly Aside[],
): Promise<void> {
  if ((await files.readMark('set-aside')) !== operation) return
  for (const [folder, aside] of folders) {
    if ((await files.list(aside)).length === 0) continue
    await files.remove(folder)
    await files.move(aside, folder)
  }
}
