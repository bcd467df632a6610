import { knownValue, type Part } from './part.ts'
import type { UnitChange } from './unit-changes.ts'

/** One line of an fstab. */
export interface Mount {
  readonly device: string
  readonly type: string
  readonly options: string
}

/**
 * What a switch does to the mounts of /etc/fstab, whose units systemd generates: it unmounts what is gone, remounts what
 * has other options, and leaves `/` and `/nix` where they are.
 */
export function compareFstab(before: Part, after: Part): UnitChange[] {
  if (before.kind === 'unknown' || after.kind === 'unknown') return []
  const [old, now] = [parseFstab(knownValue(before) ?? ''), parseFstab(knownValue(after) ?? '')]
  const changes: UnitChange[] = []
  for (const [point, mount] of old) {
    const unit = mountUnit(point)
    const next = now.get(point)
    if (next === undefined) changes.push({ unit, action: 'stop', reason: 'removed' })
    else if (mount.device !== next.device || mount.type !== next.type) {
      const stays = point === '/' || point === '/nix'
      changes.push({ unit, action: stays ? 'keep' : 'restart', reason: 'changed' })
    } else if (mount.options !== next.options) changes.push({ unit, action: 'reload', reason: 'changed' })
  }
  for (const point of now.keys()) {
    if (!old.has(point)) changes.push({ unit: mountUnit(point), action: 'start', reason: 'new' })
  }
  return changes
}

const MAX_LINES = 4096

/** By where they are mounted; swap is left out. */
export function parseFstab(text: string): ReadonlyMap<string, Mount> {
  const mounts = new Map<string, Mount>()
  for (const line of text.split('\n', MAX_LINES)) {
    if (line.includes('#')) continue // as the switch program reads it
    const [device, point, type, options = ''] = line.trim().split(/\s+/)
    if (device === undefined || point === undefined || type === undefined || type === 'swap') continue
    mounts.set(point, { device, type, options })
  }
  return mounts
}

/** The name that systemd gives the mount unit of a path. */
export function mountUnit(path: string): string {
  const parts = path.split('/').filter(Boolean)
  if (parts.length === 0) return '-.mount'
  const escaped = parts.map((part, index) =>
    [...Buffer.from(part)]
      .map((byte, at) => {
        const char = String.fromCharCode(byte)
        const plain = /[A-Za-z0-9:_.]/.test(char) && !(char === '.' && index === 0 && at === 0)
        return plain ? char : `\\x${byte.toString(16).padStart(2, '0')}`
      })
      .join(''),
  )
  return `${escaped.join('-')}.mount`
}
