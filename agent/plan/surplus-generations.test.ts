import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Generation, Generations } from './generations.ts'
import type { Part } from './part.ts'
import { surplusGenerations } from './surplus-generations.ts'

const DAY = 24 * 60 * 60 * 1000
const part = (name: string): Part => ({ kind: 'value', value: `/nix/store/${name}` })
const generation = (number: number, name = `s${number}`, ageDays = 100 - number): Generation => ({
  number,
  path: part(name),
  madeMs: -ageDays * DAY,
})
const machine = (more: Partial<Generations> = {}): Generations => ({
  generations: [1, 2, 3, 4, 5, 6].map(number => generation(number)),
  booted: part('s2'),
  current: part('s5'),
  profile: part('s6'),
  profileNumber: 6,
  ...more,
})
const removed = (question: Partial<Parameters<typeof surplusGenerations>[0]> = {}) => {
  const surplus = surplusGenerations({
    generations: machine(),
    keep: 1,
    protect: [],
    nowMs: 0,
    ...question,
  })
  return surplus.kind === 'surplus' ? surplus.remove.map(({ number }) => number) : surplus.why
}

describe('surplus generations', () => {
  test('are the oldest beyond those to keep, never the booted, the current, the profile or a protected one', () => {
    expect(removed()).toEqual([1, 3, 4])
    expect(removed({ keep: 3 })).toEqual([1, 3])
    expect(removed({ protect: ['/nix/store/s3'] })).toEqual([1, 4])
    expect(removed({ keep: 0 })).toEqual([1, 3, 4])
  })

  test('are none made within the days to keep, or at a time nobody knows', () => {
    expect(removed({ keepDays: 97 })).toEqual([1])
    const generations = machine({
      generations: [{ ...generation(1), madeMs: undefined }, generation(2), generation(3), generation(6)],
    })
    expect(removed({ generations, keepDays: 1 })).toEqual([3])
  })

  test('a system that is in use stays under whatever number it bears', () => {
    const generations = machine({ generations: [generation(1, 's5'), generation(2), generation(6)] })
    expect(removed({ generations })).toEqual([])
  })

  test('are unknown, and nothing goes, while it cannot be told what is in use', () => {
    const unknown: Part = { kind: 'unknown', why: 'EACCES' }
    expect(removed({ generations: machine({ booted: unknown }) })).toBe('EACCES')
    expect(removed({ generations: machine({ profileNumber: undefined }) })).toMatch('leads to no generation')
  })

  test('never hold what is in use, protected, unknown or among the newest, whatever the machine', () => {
    const paths = fc.constantFrom('s1', 's2', 's3', 's4', 's5')
    const anyPart = fc.oneof(paths.map(part), fc.constant<Part>({ kind: 'missing' }))
    const question = fc.record({
      generations: fc.record({
        generations: fc.uniqueArray(fc.integer({ min: 1, max: 30 })).chain(numbers =>
          fc.tuple(
            ...numbers.map(number =>
              fc.record({
                number: fc.constant(number),
                path: fc.oneof(paths.map(part), fc.constant<Part>({ kind: 'unknown' })),
                madeMs: fc.option(fc.integer({ min: -100 * DAY, max: 0 }), { nil: undefined }),
              }),
            ),
          ),
        ),
        booted: anyPart,
        current: anyPart,
        profile: anyPart,
        profileNumber: fc.integer({ min: 1, max: 30 }),
      }),
      keep: fc.integer({ min: -1, max: 10 }),
      keepDays: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
      protect: fc.array(paths.map(name => `/nix/store/${name}`)),
      nowMs: fc.constant(0),
    })
    fc.assert(
      fc.property(question, given => {
        const surplus = surplusGenerations(given)
        expect(surplus.kind).toBe('surplus')
        if (surplus.kind !== 'surplus') return
        const { booted, current, profile, profileNumber, generations } = given.generations
        const newest = generations.toSorted((a, b) => b.number - a.number).slice(0, Math.max(1, given.keep))
        for (const gone of surplus.remove) {
          expect(gone.path.kind).toBe('value')
          for (const used of [booted, current, profile]) expect(gone.path).not.toEqual(used)
          if (gone.path.kind === 'value') expect(given.protect).not.toContain(gone.path.value)
          expect(gone.number).not.toBe(profileNumber)
          expect(newest).not.toContain(gone)
        }
      }),
    )
  })
})
