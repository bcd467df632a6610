import { describe, expect, it } from 'vitest'
import { until } from './shown.ts'
import { waitUntil } from './wait-until.ts'

describe('a wait', () => {
  it('goes on while nothing is there, and while a look throws', async () => {
    let looks = 0
    const look = async () => {
      looks += 1
      if (looks === 1) throw new Error('not yet')
      return looks < 3 ? undefined : 'there'
    }
    expect(await waitUntil('it', look, { everyMs: 1 })).toBe('there')
    expect(looks).toBe(3)
    await expect(waitUntil('it', async () => undefined, { timeoutMs: 1, everyMs: 1 })).rejects.toThrow(
      'never came within 1 ms: it',
    )
  })

  it('takes no look that may say false, which would end it', async () => {
    const isThere = (): boolean => true
    // @ts-expect-error: false is no "not yet"
    await until('it', () => isThere())
    // @ts-expect-error: the same with a promise
    await waitUntil('it', async () => isThere())
    expect(await until('it', () => isThere() || undefined)).toBe(true)
  })
})
