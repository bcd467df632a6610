import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nextFollowStep } from './decide-follow.ts'
import { nextRotationStep } from './decide-rotation.ts'
import { type Planners, REAL, TokenWorld, type WorldEvent } from './testing/token-world.ts'

const at = fc.nat({ max: 2 })
const anEvent: fc.Arbitrary<WorldEvent> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('look' as const),
      at,
      lost: fc.constantFrom('no' as const, 'no' as const, 'no' as const, 'call' as const, 'answer' as const),
      cut: fc.integer({ min: 0, max: 7 }).map(each => each === 0),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        ...(['rotate', 'kill', 'power', 'boot', 'boot', 'restart', 'join', 'join'] as const),
      ),
      at,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), steps: fc.integer({ min: 1, max: 90 }) }),
  },
)
const someEvents = fc.array(anEvent, { minLength: 20, maxLength: 160 })

/** What goes wrong in worlds with these decisions; undefined: nothing in so many. */
function findWrong(planners: Planners, runs: number, seed?: number): string | undefined {
  const checked = fc.check(
    fc.property(fc.integer({ min: 1, max: 3 }), someEvents, (count, events) => {
      const world = new TokenWorld(count, planners)
      world.happen({ kind: 'rotate', at: 0 })
      for (const event of events) world.happen(event)
      if (world.wrong !== undefined) throw new Error(`${world.wrong}\n${world.steps.join('\n')}`)
      world.settle()
      if (world.unsettled !== undefined)
        throw new Error(`${world.unsettled}\n${world.steps.slice(0, 400).join('\n')}`)
    }),
    // A mistake that is looked for need not be made small.
    { numRuns: runs, ...(seed !== undefined && { seed, endOnFailure: true }) },
  )
  return checked.failed ? fc.defaultReportMessage(checked) : undefined
}

const broken = (name: string, planners: Partial<Planners>) => ({ name, planners: { ...REAL, ...planners } })

describe('a token of servers that is made anew while they run', () => {
  it('is everybody’s in the end when nothing befalls anybody', () => {
    const world = new TokenWorld(3)
    world.happen({ kind: 'rotate', at: 0 })
    world.settle()
    expect(world.unsettled).toBeUndefined()
    expect(world.machines[0]?.token).not.toBe('t0')
    expect(new Set(world.steps.map(step => step.split(' ')[1]))).toEqual(
      new Set([
        ...[
          'choose',
          'offer',
          'show-key',
          'seal',
          'keep',
          'say-kept',
          'ask',
          'take',
          'say-taken',
          'withdraw',
        ],
        ...['forget', 'wait', 'rest'],
      ]),
    )
  })

  it('is as it was when one of them does not answer', () => {
    const world = new TokenWorld(3)
    world.happen({ kind: 'rotate', at: 0 })
    world.happen({ kind: 'power', at: 2 })
    for (let round = 0; round < 200; round += 1)
      for (const each of [0, 1]) world.happen({ kind: 'look', at: each, lost: 'no', cut: false })
    expect(world.machines.map(({ token }) => token)).toEqual(['t0', 't0', 't0'])
    world.settle()
    expect(world.unsettled).toBeUndefined()
    expect([...world.keys]).toEqual(['t0'])
  })

  it('is given to no joining server beside one of agents that does not go with it, however late it is written and by whom cut off', () => {
    const world = new TokenWorld(1)
    const look = (cut = false) => world.happen({ kind: 'look', at: 0, lost: 'no', cut })
    world.happen({ kind: 'rotate', at: 0 })
    for (let looks = 0; looks < 3; looks += 1) look()
    // While k3s is at it: the datastore is under both. Nobody is there until the rotation is long over.
    world.happen({ kind: 'power', at: 0 })
    world.happen({ kind: 'pass', steps: 50 })
    world.happen({ kind: 'boot', at: 0 })
    look(true)
    expect(world.steps).toEqual(['n1 choose', 'n1 offer', 'n1 ask', 'n1 take'])
    world.happen({ kind: 'join', at: 0 })
    expect(world.wrong).toBeUndefined()
    world.settle()
    expect(world.unsettled).toBeUndefined()
  })

  it('leaves no machine without one that starts it, whatever befalls whom and when, and is the same on all of them at last', () => {
    const wrong = findWrong(REAL, 1_500)
    // Whole, with the seed that repeats it.
    expect(wrong, wrong).toBeUndefined()
  })

  it.each([
    broken('asks before all keep it', {
      rotate: view => (nextRotationStep(view) === 'seal' ? 'ask' : nextRotationStep(view)),
    }),
    broken('asks when most keep it', {
      rotate: view =>
        nextRotationStep(view) === 'wait' &&
        view.offer === 'ours' &&
        view.under === 'old' &&
        view.mayAsk &&
        view.others.some(other => other.kept)
          ? 'ask'
          : nextRotationStep(view),
    }),
    broken('gives up while k3s may be at it', {
      rotate: view => nextRotationStep({ ...view, quiet: true }),
    }),
    broken('asks after it was given up', {
      rotate: view =>
        nextRotationStep(view.offer === 'cancelled' ? { ...view, offer: 'ours', mayAsk: true } : view),
    }),
    broken('forgets the old one before it starts with the new one', {
      rotate: view => (nextRotationStep(view) === 'take' ? 'forget' : nextRotationStep(view)),
    }),
    broken('says that it keeps what it does not', {
      follow: view =>
        nextFollowStep(view) === 'keep' && view.said === 'nothing' ? 'say-kept' : nextFollowStep(view),
    }),
    broken('forgets when the offer is gone', {
      follow: view => (view.pair && view.offer === 'none' ? 'forget' : nextFollowStep(view)),
    }),
    broken('takes it before the datastore does, and forgets', {
      follow: view =>
        view.pair && view.under === 'old' && view.said === 'kept'
          ? view.token === 'old'
            ? 'take'
            : 'forget'
          : nextFollowStep(view),
    }),
    broken('never starts with the other one', {
      follow: view => (nextFollowStep(view) === 'exchange' ? 'wait' : nextFollowStep(view)),
    }),
    broken('writes the token of servers first, and has a server join between the two once the time is over', {
      writes: (...given) => REAL.writes(...given).toReversed(),
      between: (pair, _, over) => pair !== undefined && !over,
    }),
    broken('leaves agents the old one', {
      writes: (...given) => REAL.writes(...given).filter(({ name }) => name === 'token'),
    }),
    broken('lets a server join with a token that k3s has only written down', {
      joiners: view => REAL.joiners({ ...view, taken: true }),
    }),
    broken('lets a server join with a token of before', {
      joiners: view => REAL.joiners({ ...view, current: true }),
    }),
    broken('lets no server join where k3s has the new one', {
      joiners: view => (view.token === 't0' ? REAL.joiners(view) : 'restart'),
    }),
    broken('leaves what the old one opens', {
      rotate: view => nextRotationStep(view.under === 'both' ? { ...view, under: 'next' } : view),
      follow: view => nextFollowStep(view.under === 'both' ? { ...view, under: 'next' } : view),
    }),
  ])('is found out where it $name', ({ planners }) => {
    expect(findWrong(planners, 4_000, 7)).toBeDefined()
  })
})
