import { spawnSync } from 'node:child_process'

const MOUNT = 'mount -t tmpfs -o size="$2" tmpfs "$1" && shift 2 && exec "$@"'

/** Whether this user may mount a file system of its own: without that no disk can be filled. */
export const hasSmallDisks =
  spawnSync('unshare', ['--map-root-user', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt']).status === 0

/**
 * Runs a TypeScript program with a small file system of its own mounted on `dir`, which is gone with it. Gives its lines.
 */
export function runOnSmallDisk(
  dir: string,
  size: string,
  program: string,
  args: readonly string[],
): string[] {
  const node = [process.execPath, '--import', 'tsx', program, dir, ...args]
  const { stdout, stderr, status } = spawnSync(
    'unshare',
    ['--map-root-user', '--mount', 'sh', '-c', MOUNT, 'sh', dir, size, ...node],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`${program}: exit code ${status}: ${stderr}`)
  return stdout.trim().split('\n')
}
