import { describe, expect, it } from 'vitest'
import { Presence, SILENT_FOR_MS } from './presence.ts'

const NOW = 1_800_000_000_000
const HOUR_MS = 3_600_000
const NOBODY: ReadonlySet<string> = new Set()
const everybody = () => true

describe('who fell silent', () => {
  it('is who was heard of a short time ago and is not now, other than for what we do to it', () => {
    const presence = new Presence([], NOW)
    presence.look(['a', 'b', 'c'], NOW)
    expect(presence.silence(['a'], new Set(['b']), 30, NOW + 1, everybody)).toEqual({
      known: 2,
      silent: 1,
      percent: 30,
    })
    expect(presence.silence(['a'], NOBODY, 30, NOW + SILENT_FOR_MS + 1, everybody).silent).toBe(0)
  })

  it('is nobody who was sent away, so that one farewell does not keep the next one waiting', () => {
    const presence = new Presence([], NOW)
    presence.look(['a', 'b', 'c'], NOW)
    const member = (machine: string) => machine === 'a'
    expect(presence.silence(['a'], NOBODY, 30, NOW + 1, member)).toEqual({ known: 1, silent: 0, percent: 30 })
  })

  it('after a start is who was there when the last coordinator stopped, however long none ran', () => {
    const stopped = NOW - 5 * HOUR_MS
    const presence = new Presence(
      [
        ['here', stopped],
        ['beat-before', stopped - 30_000],
        ['in-a-drawer', stopped - HOUR_MS],
      ],
      NOW,
    )
    expect(presence.silence([], NOBODY, 30, NOW, everybody).silent).toBe(2)
    expect(presence.silence([], NOBODY, 30, NOW + SILENT_FOR_MS - 60_000, everybody).silent).toBe(2)
    expect(presence.silence([], NOBODY, 30, NOW + SILENT_FOR_MS + 1, everybody).silent).toBe(0)
  })
})

describe('a machine that is not connected', () => {
  it('is away since it was last here, and at the earliest since this start', () => {
    const presence = new Presence([['a', NOW - HOUR_MS]], NOW)
    expect(presence.awaySinceMs('a')).toBe(NOW)
    expect(presence.awaySinceMs('never-seen')).toBe(NOW)
    presence.look(['a'], NOW + 5_000)
    expect(presence.awaySinceMs('a')).toBe(NOW + 5_000)
  })
})
