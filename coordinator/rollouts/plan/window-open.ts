import type { MaintenanceWindow } from '../../../shared/rollout/maintenance-window.ts'

const formats = new Map<string, Intl.DateTimeFormat>()
const DAY_NAMES = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
/** Zones that are kept; a fleet uses few. */
const MOST_FORMATS = 100

/**
 * Whether a window is open at an instant, by the clocks of its time zone: where they are put forward or back, an hour of it is left
 * out or comes twice, as it does on the wall.
 */
export function isOpen(window: MaintenanceWindow, nowMs: number): boolean {
  const { day, minute } = wallClock(window.timeZone, nowMs)
  const { days, fromMinute, toMinute } = window
  if (fromMinute < toMinute) return days.includes(day) && minute >= fromMinute && minute < toMinute
  const yesterday = day === 1 ? 7 : day - 1
  return (days.includes(day) && minute >= fromMinute) || (days.includes(yesterday) && minute < toMinute)
}

/** What clocks on the wall show: the day, 1 is Monday, and the minutes since midnight. */
export function wallClock(
  timeZone: string,
  nowMs: number,
): { readonly day: number; readonly minute: number } {
  const parts = new Map(
    formatOf(timeZone)
      .formatToParts(nowMs)
      .map(({ type, value }) => [type, value]),
  )
  const day = DAY_NAMES.indexOf(parts.get('weekday') ?? '') + 1
  const minute = Number(parts.get('hour')) * 60 + Number(parts.get('minute'))
  if (day === 0 || !Number.isInteger(minute)) throw new Error(`the clock of ${timeZone} cannot be read`)
  return { day, minute }
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone)
  if (known) return known
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  })
  if (formats.size < MOST_FORMATS) formats.set(timeZone, format)
  return format
}
