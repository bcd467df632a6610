import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { planRollouts } from './plan-rollouts.ts'
import type { RolloutAction } from './rollout-record.ts'
import { BROKEN_PLANNERS, SMALL_WORLD } from './testing/broken-planners.ts'
import { type SimulationOptions, simulateRollouts } from './testing/simulate-rollouts.ts'

const actions = fc.constantFrom<readonly RolloutAction[]>(
  ['apply', 'reboot', 'reboot'],
  ['upgrade', 'apply', 'reboot'],
  ['apply', 'apply', 'apply'],
)

function options(most: number): fc.Arbitrary<SimulationOptions> {
  return fc.record({
    seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    alone: fc.integer({ min: 0, max: most }),
    quarantined: fc.constantFrom(0, 0, 0.05),
    lying: fc.constantFrom(0, 0.02, 0.1),
    forbidding: fc.constantFrom(0, 0, 0.02, 0.1),
    askGates: fc.boolean(),
    clusters: fc.array(
      fc.record({
        servers: fc.constantFrom(1, 3, 3, 5),
        workers: fc.integer({ min: 0, max: Math.ceil(most / 4) }),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    maxUnavailable: fc.oneof(
      fc.record({ kind: fc.constant('percent' as const), percent: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant('number' as const), number: fc.integer({ min: 1, max: 5 }) }),
    ),
    onFailure: fc.constantFrom('stop', 'continue', 'continue', 'revert'),
    maxFailures: fc.constantFrom(undefined, undefined, 3, 8),
    spread: fc.boolean(),
    canaries: fc.integer({ min: 0, max: 3 }),
    actions,
  })
}

// What fails is repeated by the seed and path that fast-check prints.
const seed = randomInt(2 ** 31)
console.log(`simulated rollouts: seed ${seed}`)

describe('rollouts in a made-up world of crashes, partitions, lies and restarts of the coordinator at every step', () => {
  it('T39, T40, T41, T45, T46, N27, N28, N29, N31, N32, N33: keep budget, quorum, order, locks and windows, grant once, and end', () => {
    const counts: Record<string, number> = {}
    fc.assert(
      fc.property(options(25), each => {
        const result = simulateRollouts(each, planRollouts)
        expect(result.violations).toEqual([])
        expect(result.unsettled).toEqual([])
        for (const [name, count] of Object.entries({ ...result.counts, ...result.ended })) {
          counts[name] = (counts[name] ?? 0) + count
        }
      }),
      { seed, numRuns: 20, endOnFailure: true },
    )
    // A world in which nothing happens would prove nothing.
    for (const name of ['crashes', 'restarts', 'lost', 'acts', 'failures', 'succeeded', 'failed']) {
      expect(counts[name], name).toBeGreaterThan(0)
    }
  })

  it('do so over hundreds of hosts', () => {
    let acts = 0
    for (let more = 0; more < 2; more++) {
      const result = simulateRollouts({ ...LARGE, seed: seed + more }, planRollouts)
      expect(result).toMatchObject({ violations: [], unsettled: [] })
      acts += result.counts.acts
    }
    expect(acts).toBeGreaterThan(60)
  })
})

const LARGE: SimulationOptions = {
  seed: 1,
  alone: 100,
  quarantined: 0.01,
  lying: 0.02,
  forbidding: 0.005,
  askGates: true,
  clusters: [
    { servers: 3, workers: 50 },
    { servers: 5, workers: 30 },
    { servers: 1, workers: 20 },
  ],
  maxUnavailable: { kind: 'percent', percent: 20 },
  onFailure: 'continue',
  maxFailures: undefined,
  spread: false,
  canaries: 0,
  actions: ['upgrade', 'apply', 'reboot'],
}

describe('the made-up world', () => {
  it.each(BROKEN_PLANNERS)('notices a planner that $name', ({ notices, planner, options: change }) => {
    const noticed = () => {
      for (let run = 1; run <= 20; run += 1) {
        const result = simulateRollouts({ ...SMALL_WORLD, ...change, seed: run }, planner())
        const found = result.violations.find(text => notices.test(text))
        if (found !== undefined) return found
      }
      return 'nothing'
    }
    expect(noticed()).toMatch(notices)
  })
})
