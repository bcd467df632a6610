import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isOpen, wallClock } from './window-open.ts'

const DAY_MS = 86_400_000
const EVERY_DAY = [1, 2, 3, 4, 5, 6, 7]
/** Around both days on which clocks in Berlin are changed in 2026. */
const instants = fc.oneof(
  fc.integer({ min: Date.UTC(2026, 2, 27), max: Date.UTC(2026, 2, 31) }),
  fc.integer({ min: Date.UTC(2026, 9, 23), max: Date.UTC(2026, 9, 27) }),
  fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2027, 0, 1) }),
)
const minutes = fc.integer({ min: 0, max: 1439 })
const days = fc.subarray(EVERY_DAY, { minLength: 1 })

/** The hours that Berlin is ahead, by the rule of the directive and nothing else. */
function berlinHours(nowMs: number): number {
  return nowMs >= Date.UTC(2026, 2, 29, 1) && nowMs < Date.UTC(2026, 9, 25, 1) ? 2 : 1
}

/** The same question, answered by asking when the window last began on the wall. */
function isOpenOnTheWall(window: Parameters<typeof isOpen>[0], wallMs: number): boolean {
  const midnight = Math.floor(wallMs / DAY_MS) * DAY_MS
  const lasts = ((window.toMinute - window.fromMinute + 1440) % 1440 || 1440) * 60_000
  return [midnight - DAY_MS, midnight].some(day => {
    const weekday = ((Math.floor(day / DAY_MS) + 3) % 7) + 1
    const began = day + window.fromMinute * 60_000
    return window.days.includes(weekday) && wallMs >= began && wallMs < began + lasts
  })
}

describe('a maintenance window', () => {
  it('T46: is open by the clock on the wall of its zone, over midnight, week ends and changed clocks', () => {
    fc.assert(
      fc.property(instants, days, minutes, minutes, (nowMs, on, fromMinute, toMinute) => {
        const window = { days: on, fromMinute, toMinute, timeZone: 'Europe/Berlin' }
        const wallMs = nowMs + berlinHours(nowMs) * 3_600_000
        expect(isOpen(window, nowMs)).toBe(isOpenOnTheWall(window, wallMs))
      }),
      { numRuns: 500 },
    )
  })

  it('T46: of the night in which clocks are put forward has no hour that there is not, and in autumn one comes twice', () => {
    const window = { days: EVERY_DAY, fromMinute: 120, toMinute: 180, timeZone: 'Europe/Berlin' }
    const openMinutes = (fromMs: number) =>
      Array.from({ length: 24 * 60 }, (_, minute) => isOpen(window, fromMs + minute * 60_000)).filter(Boolean)
        .length
    expect(openMinutes(Date.UTC(2026, 2, 28, 12))).toBe(0)
    expect(openMinutes(Date.UTC(2026, 9, 24, 12))).toBe(120)
    expect(openMinutes(Date.UTC(2026, 5, 1, 12))).toBe(60)
  })

  it('T42: is neither open nor closed where its clock cannot be read', () => {
    expect(isOpen({ days: EVERY_DAY, fromMinute: 0, toMinute: 0, timeZone: 'Mars/Base' }, 0)).toBeUndefined()
    expect(wallClock('UTC', Number.NaN)).toBeUndefined()
  })
})
