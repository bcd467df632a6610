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

const BTRFS_BYTES = '192m'
/** The folder is made as the NixOS module makes the agent's: `+C` for it and what is made in it, or as btrfs does by itself. */
const ON_BTRFS = `set -e
truncate -s ${BTRFS_BYTES} "$1/image" && mkfs.btrfs -q "$1/image" >/dev/null
mkdir "$1/disk" && mount -o loop "$1/image" "$1/disk" && mkdir -p "$1/disk/state/ops"
if [ "$2" = +C ]; then chattr +C "$1/disk/state" "$1/disk/state/ops"; fi
shift 2 && exec "$@"`

const CAN_BTRFS = `grep -qw btrfs /proc/filesystems || exit 1
for tool in mkfs.btrfs chattr losetup; do command -v "$tool" || exit 1; done
unshare --mount losetup --find`

/** Whether this user may mount a btrfs, which no name space of one's own lets a user do who is not root. */
export const hasBtrfs = process.getuid?.() === 0 && spawnSync('sh', ['-c', CAN_BTRFS]).status === 0

/** Runs a TypeScript program on a folder of a btrfs of its own, which is gone with it. Gives its lines, and whether it ended well. */
export function runOnBtrfs(
  dir: string,
  attribute: '+C' | 'none',
  program: string,
): { readonly lines: readonly string[]; readonly status: number | null; readonly stderr: string } {
  const node = [process.execPath, '--import', 'tsx', program, `${dir}/disk/state`]
  const { stdout, stderr, status } = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', ON_BTRFS, 'sh', dir, attribute, ...node],
    { encoding: 'utf8' },
  )
  return { lines: stdout.trim().split('\n'), status, stderr }
}
