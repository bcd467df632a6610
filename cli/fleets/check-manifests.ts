import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { Problem } from '../../shared/fleet-file/problem.ts'
import { linkProblem, manifestsFolder } from '../../shared/tree/manifests-folder.ts'
import { MAX_DEPTH } from '../../shared/tree/tree-limits.ts'

/** Links among the manifests of clusters, which every server would refuse to bring. */
export async function checkManifests(
  dir: string,
  file: string,
  clusters: Iterable<string>,
): Promise<readonly Problem[]> {
  const problems: Problem[] = []
  const look = async (path: string, depth: number): Promise<void> => {
    const kind = await kindOf(join(dir, path))
    if (kind === 'link') {
      const message = linkProblem(escapeText(path))
      problems.push({ file, line: 1, column: 1, path: '', severity: 'error', message })
    }
    // What lies deeper is refused when the directory is packed.
    if (kind !== 'folder' || depth > MAX_DEPTH) return
    for (const name of (await readdir(join(dir, path))).sort()) await look(`${path}/${name}`, depth + 1)
  }
  if ((await kindOf(join(dir, 'manifests'))) === 'link') await look('manifests', 0)
  else for (const cluster of clusters) await look(manifestsFolder(cluster), 1)
  return problems
}

async function kindOf(path: string): Promise<'link' | 'folder' | undefined> {
  try {
    const stat = await lstat(path)
    return stat.isSymbolicLink() ? 'link' : stat.isDirectory() ? 'folder' : undefined
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
