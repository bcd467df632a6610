import { type System, succeeded } from '../../system/system.ts'
import { DONE, done, failed, type Result } from '../result.ts'

const MOUNTS = '/proc/self/mountinfo'
const MAX_BYTES = 16 * 1024 * 1024
const CALL_MS = 30_000

/**
 * Unmounts everything below these folders, and not what is mounted at them. Done when nothing is mounted there any more: whoever
 * empties a folder would else empty a volume that lies elsewhere.
 */
export async function unmountBelow(
  system: System,
  folders: readonly string[],
  signal?: AbortSignal,
): Promise<Result<void>> {
  const before = await readMounts(system, folders)
  if (before.kind === 'failed') return before
  let why = ''
  for (const path of before.value) {
    const plain = await system.run('umount', [path], { deadlineMs: CALL_MS, signal })
    if (plain.ending.kind === 'cancelled') return failed('cancelled', `umount ${path}: cancelled`)
    if (succeeded(plain.ending)) continue
    // A volume whose server is gone does not let go; nothing of this machine needs it any more.
    const lazy = await system.run('umount', ['--lazy', path], { deadlineMs: CALL_MS, signal })
    if (!succeeded(lazy.ending)) why ||= lazy.stderr.trim().slice(0, 300)
  }
  const after = await readMounts(system, folders)
  if (after.kind === 'failed') return after
  const [left] = after.value
  return left === undefined
    ? DONE
    : failed(
        'command',
        `${left} is still mounted${why === '' ? '' : `: ${why}`}; unmount it, then this goes on`,
      )
}

async function readMounts(system: System, folders: readonly string[]): Promise<Result<readonly string[]>> {
  const reading = await system.readFile(MOUNTS, MAX_BYTES)
  if (reading.kind !== 'file' || reading.truncated)
    return failed(
      'unreadable',
      `${MOUNTS} cannot be read: nobody knows what is mounted below ${folders.join(', ')}`,
    )
  return done(mountsBelow(reading.bytes.toString('utf8'), folders))
}

/** The places of mounts below folders, by the text of mountinfo; what was mounted last comes first. */
export function mountsBelow(text: string, folders: readonly string[]): readonly string[] {
  return text
    .split('\n')
    .flatMap(line => line.split(' ')[4] ?? [])
    .map(path =>
      path.replaceAll(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8))),
    )
    .filter(path => folders.some(folder => path.startsWith(`${folder}/`)))
    .toReversed()
}
