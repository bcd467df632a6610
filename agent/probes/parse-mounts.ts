export interface Mount {
  readonly path: string
  readonly device: string
  readonly kind: string
}

/** File systems with a disk of this machine behind them though what they name is no device. */
const ON_DISK: ReadonlySet<string> = new Set(['zfs', 'bcachefs', 'btrfs'])

/**
 * Mounted file systems with a disk of this machine behind them, from /proc/PID/mountinfo, by path. One that is mounted in
 * several places is told once, where it was mounted first; those of a network are left out, for one whose server is gone
 * never answers.
 */
export function parseMounts(text: string): readonly Mount[] {
  const found = new Map<string, Mount>()
  for (const line of text.split('\n')) {
    // 36 35 98:0 /root /mount options shared:1 - ext4 /dev/sda1 rw
    const [before, after] = line.split(' - ')
    const [, , number, , path] = before?.split(' ') ?? []
    const [kind, device] = after?.split(' ') ?? []
    if (number === undefined || path === undefined || kind === undefined || device === undefined) continue
    const key = number.startsWith('0:') ? `${kind} ${device}` : number
    const isDisk = device.startsWith('/dev/') || ON_DISK.has(kind)
    if (!isDisk || kind === 'squashfs' || found.has(key)) continue
    found.set(key, { path: unescapeOctal(path), device: unescapeOctal(device), kind })
  }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** Blanks and backslashes are written as octal numbers. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
