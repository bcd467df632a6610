import { create } from '@bufbuild/protobuf'
import {
  type DisksAnswer,
  DisksAnswerSchema,
  type DisksProbe,
  type FileSystem,
  FileSystemSchema,
} from '../../shared/gen/muster/v1/probe_pb.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import type { System } from '../system/system.ts'
import { type Mount, parseMounts } from './parse-mounts.ts'

const MAX_DISKS = 64
const MAX_PATHS = 32
const MAX_PATH_CHARS = 1_024
const MAX_MOUNTS_BYTES = 1024 * 1024

/** How full file systems are: every one with a disk behind it, or those that the paths lie on. */
export async function readDisks(
  system: System,
  { paths }: Pick<DisksProbe, 'paths'>,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<DisksAnswer> {
  if (paths.length > MAX_PATHS || paths.some(path => path.length > MAX_PATH_CHARS || !path.startsWith('/'))) {
    throw new Error(`disks: at most ${MAX_PATHS} absolute paths of ${MAX_PATH_CHARS} characters`)
  }
  const mounts =
    paths.length > 0 ? paths.map(path => ({ path, device: '', kind: '' })) : await mountsOf(system)
  // A little less than the whole: one file system that hangs must not take the others with it.
  const eachMs = Math.max(100, Math.round(deadlineMs * 0.8))
  const disks = await Promise.all(
    mounts.slice(0, MAX_DISKS).map(mount => readOne(system, mount, eachMs, signal)),
  )
  return create(DisksAnswerSchema, { disks, truncated: mounts.length > MAX_DISKS })
}

async function mountsOf(system: System): Promise<readonly Mount[]> {
  // The agent's own view may be a narrowed one.
  for (const path of ['/proc/1/mountinfo', '/proc/self/mountinfo']) {
    const reading = await system.readFile(path, MAX_MOUNTS_BYTES)
    if (reading.kind === 'file') return parseMounts(reading.bytes.toString('utf8'))
  }
  throw new Error('disks: /proc/1/mountinfo cannot be read')
}

async function readOne(
  system: System,
  mount: Mount,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<FileSystem> {
  const disk = create(FileSystemSchema, mount)
  try {
    const space = await withDeadline(deadlineMs, signal, () => system.space(mount.path))
    if (space.kind !== 'space') return { ...disk, error: space.kind === 'missing' ? 'not there' : space.code }
    const { totalBytes, freeBytes, totalFiles, freeFiles } = space
    disk.size = BigInt(totalBytes)
    disk.free = BigInt(freeBytes)
    if (totalFiles > 0) {
      disk.files = BigInt(totalFiles)
      disk.freeFiles = BigInt(freeFiles)
    }
    return disk
  } catch {
    return { ...disk, error: `no answer within ${deadlineMs} ms` }
  }
}
