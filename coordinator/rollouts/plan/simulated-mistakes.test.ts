import { describe, expect, it } from 'vitest'
import { BROKEN_PLANNERS } from './testing/broken-planners/broken-planners.ts'
import { SMALL_WORLD } from './testing/broken-planners/worlds.ts'
import { simulateRollouts } from './testing/simulate-rollouts.ts'

describe('the made-up world', () => {
  it.each(BROKEN_PLANNERS)('notices a planner that $name', ({ notices, planner, options: change }) => {
    const noticed = () => {
      for (let run = 1; run <= 20; run += 1) {
        const result = simulateRollouts({ ...SMALL_WORLD, ...change, seed: run }, planner())
        const found = [...result.violations, ...result.unsettled].find(text => notices.test(text))
        if (found !== undefined) return found
      }
      return 'nothing'
    }
    expect(noticed()).toMatch(notices)
  })
})
