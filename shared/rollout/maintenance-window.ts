/** A time of the week, as the clocks of its time zone show it. */
export interface MaintenanceWindow {
  /** Days on which it begins, 1 is Monday; in order, each once, at least one. */
  readonly days: readonly number[]
  /** Minutes after midnight at which it begins and ends. One that does not end later than it begins ends on the next day. */
  readonly fromMinute: number
  readonly toMinute: number
  /** IANA name. */
  readonly timeZone: string
}

const DAYS: readonly string[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']
const EVERY_DAY = [1, 2, 3, 4, 5, 6, 7]

/** Reads a window such as "22:00-04:00 Europe/Berlin" or "sat sun 02:00-05:00 UTC"; a text is what is wrong with it. */
export function readWindow(text: string): MaintenanceWindow | string {
  const [, names = '', from = '', to = '', timeZone = ''] =
    /^((?:[a-z]{3} )*)([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2}) ([A-Za-z0-9_+/-]{1,64})$/.exec(text) ?? []
  if (timeZone === '') {
    return 'write days, times and time zone, such as "22:00-04:00 Europe/Berlin" or "sat sun 02:00-05:00 UTC"'
  }
  const days: number[] = []
  for (const name of names.split(' ').filter(part => part !== '')) {
    const day = DAYS.indexOf(name) + 1
    if (day === 0) return `${name} is no day; write ${DAYS.join(', ')}`
    if (days.includes(day)) return `${name} stands in it twice`
    days.push(day)
  }
  const fromMinute = minuteOf(from)
  const toMinute = minuteOf(to)
  if (fromMinute === undefined || toMinute === undefined) return 'times are from 00:00 to 23:59'
  if (!isTimeZone(timeZone)) return `${timeZone} is no time zone; write one such as Europe/Berlin or UTC`
  return { days: days.length === 0 ? EVERY_DAY : days.toSorted(), fromMinute, toMinute, timeZone }
}

/** A window as it is written in the fleet file. */
export function windowText({ days, fromMinute, toMinute, timeZone }: MaintenanceWindow): string {
  const names = days.length === EVERY_DAY.length ? '' : days.map(day => `${DAYS[day - 1]} `).join('')
  return `${names}${clockText(fromMinute)}-${clockText(toMinute)} ${timeZone}`
}

export function clockText(minute: number): string {
  const two = (value: number) => String(value).padStart(2, '0')
  return `${two(Math.floor(minute / 60))}:${two(minute % 60)}`
}

/** Minutes after midnight of "22:00"; undefined when it is no time of a day. */
export function minuteOf(text: string): number | undefined {
  const [, hours, minutes] = /^([01][0-9]|2[0-3]):([0-5][0-9])$/.exec(text) ?? []
  return hours === undefined ? undefined : Number(hours) * 60 + Number(minutes)
}

/** Whether this program knows the zone. Offsets such as "+02:00" are none: they know no summer time. */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z]/.test(name)) return false
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false // RangeError: the zone is not known
  }
}
