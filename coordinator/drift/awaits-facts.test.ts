import fc from 'fast-check'
import { expect, test } from 'vitest'
import { awaitsFacts, FACTS_TAKE_MS } from './awaits-facts.ts'

const paths = fc.constantFrom('/nix/store/a', '/nix/store/b', '/nix/store/c')
const change = fc.record({
  operation: fc.constant('op-1'),
  endedMs: fc.constant(1_000_000),
  runs: fc.oneof(fc.constant(''), paths),
  promoted: fc.option(paths, { nil: undefined }),
})
const facts = fc.record({
  current: fc.option(paths, { nil: undefined }),
  profile: fc.option(paths, { nil: undefined }),
  toldMs: fc.option(fc.integer({ min: 900_000, max: 1_100_000 }), { nil: undefined }),
})
const now = fc.integer({ min: 1_000_000, max: 1_200_000 })

test('facts are awaited only while they are older than the change, contradict it, and for a bounded while', () => {
  fc.assert(
    fc.property(facts, change, now, (told, ended, nowMs) => {
      const { runs, promoted, endedMs } = ended
      const agrees =
        (runs === '' || told.current === runs) && (promoted === undefined || told.profile === promoted)
      const isOlder = told.toldMs !== undefined && told.toldMs <= endedMs
      expect(awaitsFacts(told, ended, nowMs)).toBe(isOlder && !agrees && nowMs - endedMs < FACTS_TAKE_MS)
    }),
  )
})

test('facts of a machine that was never changed are awaited by nobody', () => {
  fc.assert(fc.property(facts, now, (told, nowMs) => !awaitsFacts(told, undefined, nowMs)))
})
