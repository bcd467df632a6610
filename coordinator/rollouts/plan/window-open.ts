import type { MaintenanceWindow } from '../../../shared/rollout/maintenance-window.ts'

const formats = new Map<string, Intl.DateTimeFormat>()
const DAY_NAMES = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
/** Zones that are kept; a fleet uses few. */
const MOST_FORMATS = 100

/** What clocks on the wall show: the day, 1 is Monday, and the minutes since midnight. */
export interface WallClock {
  readonly day: number
  readonly minute: number
}

/** What the clocks of all zones show at one instant. Each is read once, since every host of a fleet asks. */
export class WallClocks {
  readonly #nowMs: number
  readonly #read = new Map<string, WallClock | undefined>()

  constructor(nowMs: number) {
    this.#nowMs = nowMs
  }

  /** Whether a window is open now; undefined: the clock of its zone cannot be read. */
  isOpen(window: MaintenanceWindow): boolean | undefined {
    const clock = this.#at(window.timeZone)
    return clock && contains(window, clock)
  }

  #at(timeZone: string): WallClock | undefined {
    if (this.#read.has(timeZone)) return this.#read.get(timeZone)
    const clock = wallClock(timeZone, this.#nowMs)
    this.#read.set(timeZone, clock)
    return clock
  }
}

/**
 * Whether a window is open at an instant, by the clocks of its time zone: where they are put forward or back, an hour of it is left
 * out or comes twice, as it does on the wall. Undefined: the clock cannot be read.
 */
export function isOpen(window: MaintenanceWindow, nowMs: number): boolean | undefined {
  return new WallClocks(nowMs).isOpen(window)
}

function contains({ days, fromMinute, toMinute }: MaintenanceWindow, { day, minute }: WallClock): boolean {
  if (fromMinute < toMinute) return days.includes(day) && minute >= fromMinute && minute < toMinute
  const yesterday = day === 1 ? 7 : day - 1
  return (days.includes(day) && minute >= fromMinute) || (days.includes(yesterday) && minute < toMinute)
}

/** Undefined: this program does not know the zone, or the instant is none. */
export function wallClock(timeZone: string, nowMs: number): WallClock | undefined {
  const format = formatOf(timeZone)
  if (!format || !Number.isFinite(nowMs)) return undefined
  const parts = new Map(format.formatToParts(nowMs).map(({ type, value }) => [type, value]))
  const day = DAY_NAMES.indexOf(parts.get('weekday') ?? '') + 1
  const minute = Number(parts.get('hour')) * 60 + Number(parts.get('minute'))
  return day === 0 || !Number.isInteger(minute) ? undefined : { day, minute }
}

function formatOf(timeZone: string): Intl.DateTimeFormat | undefined {
  const known = formats.get(timeZone)
  if (known) return known
  try {
    const format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23',
    })
    if (formats.size < MOST_FORMATS) formats.set(timeZone, format)
    return format
  } catch {
    return undefined // RangeError: the zone is not known
  }
}
