import { createHash } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { basename } from 'node:path'
import { closureOf } from './nix.ts'
import { ensureCached } from './root.ts'
import { must } from './run.ts'

/**
 * A folder to lay over others (the topmost first) whose store has these paths of the host's store, with all they need, as
 * valid paths. Returns all the layers, to be put over the root. The same paths give the same folder of the cache.
 */
export async function storeLayer(
  root: string,
  below: readonly string[],
  paths: readonly string[],
): Promise<readonly string[]> {
  const key = createHash('sha256')
    .update([root, ...below, ...paths.toSorted()].map(path => basename(path)).join('\n'))
    .digest('hex')
  const layer = await ensureCached(`store-${key.slice(0, 16)}`, async folder => {
    await importPaths(folder, [...below, root], paths)
  })
  return [layer, ...below]
}

async function importPaths(
  folder: string,
  lower: readonly string[],
  paths: readonly string[],
): Promise<void> {
  const [work, merged] = [`${folder}-work`, `${folder}-merged`]
  await mkdir(work)
  await mkdir(merged)
  const closure = await closureOf(paths)
  const script = `
    set -e
    mount --make-rprivate /
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
    merged=$4
    shift 4
    nix-store --export "$@" |
      chroot "$merged" env -i PATH=/usr/bin:/bin HOME=/root NIX_CONFIG='build-users-group =' nix-store --import >/dev/null
  `
  try {
    const args = ['--mount', '/bin/sh', '-c', script, 'sh', lower.join(':'), folder, work, merged]
    await must('unshare', [...args, ...closure], { timeoutMs: 5 * 60_000 })
  } finally {
    await rm(work, { recursive: true, force: true })
    await rm(merged, { recursive: true, force: true })
  }
}
