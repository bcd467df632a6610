import { durationMs } from '../shared/duration.ts'

const LONGEST_MS = 3_660 * 86_400_000

/** Reads a duration such as "90s", "5m", "1h30m", "90d" or "2w" that is longer than nothing; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const ms = durationMs(text)
  return ms !== undefined && ms > 0 && ms <= LONGEST_MS ? ms : undefined
}

/** A duration in at most two units, for tables: "12s", "5m", "2h10m", "3d4h", "90d". */
export function formatDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return two(hours, 'h', minutes % 60, 'm', hours < 10)
  const days = Math.floor(hours / 24)
  return two(days, 'd', hours % 24, 'h', days < 10)
}

function two(large: number, unit: string, small: number, smallUnit: string, both: boolean): string {
  return both && small > 0 ? `${large}${unit}${small}${smallUnit}` : `${large}${unit}`
}

/** What is left of a time, rounded up to whole minutes above an hour: "1h" just after one hour was given. */
export function formatRemaining(ms: number): string {
  return formatDuration(ms > 3_540_000 ? Math.ceil(ms / 60_000) * 60_000 : ms)
}

/** Bytes for people: "512 B", "1.5 GiB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}
