import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { keyedRunner } from './keyed-runner.ts'

/** Work that lasts until it is told to end. */
function makeRunner() {
  const stop = new AbortController()
  const begun: string[] = []
  const errors: unknown[] = []
  const ends = new Map<string, (error?: Error) => void>()
  let doubled = false
  const runner = keyedRunner(
    key =>
      new Promise<void>((resolve, reject) => {
        doubled ||= ends.has(key)
        begun.push(key)
        ends.set(key, error => {
          ends.delete(key)
          if (error) reject(error)
          else resolve()
        })
      }),
    stop.signal,
    (key, error) => errors.push([key, error]),
  )
  const turn = () => new Promise(resolve => setImmediate(resolve))
  return { runner, stop, begun, errors, ends, turn, doubled: () => doubled }
}

describe('a keyed runner', () => {
  it('runs each key once at a time, and once more after a run for all triggers during it', async () => {
    const action = fc.record({ key: fc.constantFrom('a', 'b', 'c'), end: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 30 }), async actions => {
        const { runner, begun, ends, turn, doubled } = makeRunner()
        const state = new Map<string, 'running' | 'again'>()
        const expected: Record<string, number> = { a: 0, b: 0, c: 0 }
        for (const { key, end } of actions) {
          if (end) {
            const again = state.get(key) === 'again'
            ends.get(key)?.()
            if (again) {
              state.set(key, 'running')
              expected[key] = (expected[key] ?? 0) + 1
            } else state.delete(key)
          } else {
            runner.trigger(key)
            if (!state.has(key)) expected[key] = (expected[key] ?? 0) + 1
            state.set(key, state.has(key) ? 'again' : 'running')
          }
          await turn()
        }
        const counts = Object.fromEntries(
          Object.keys(expected).map(key => [key, begun.filter(one => one === key).length]),
        )
        expect(counts).toEqual(expected)
        expect(doubled()).toBe(false)
      }),
      { numRuns: 50 },
    )
  })

  it('goes on after a run that failed, and reports it', async () => {
    const { runner, begun, errors, ends, turn } = makeRunner()
    runner.trigger('a')
    runner.trigger('a')
    const broken = new Error('broken')
    ends.get('a')?.(broken)
    await turn()
    expect(errors).toEqual([['a', broken]])
    expect(begun).toEqual(['a', 'a'])
  })

  it('starts nothing after its signal, and is idle when what ran has ended', async () => {
    const { runner, stop, begun, ends, turn } = makeRunner()
    runner.trigger('a')
    runner.trigger('a')
    stop.abort()
    runner.trigger('b')
    let idle = false
    const waiting = runner.idle().then(() => {
      idle = true
    })
    await turn()
    expect(idle).toBe(false)
    ends.get('a')?.()
    await waiting
    expect(begun).toEqual(['a'])
  })
})
