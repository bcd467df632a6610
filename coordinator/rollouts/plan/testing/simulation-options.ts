import fc from 'fast-check'
import type { RolloutAction } from '../rollout-record.ts'
import type { SimulationOptions } from './simulated-operators.ts'

const actions = fc.constantFrom<readonly RolloutAction[]>(
  ['apply', 'reboot', 'reboot'],
  ['upgrade', 'apply', 'reboot'],
  ['apply', 'apply', 'apply'],
  ['rotate', 'apply', 'restart'],
  ['restart', 'apply', 'rotate'],
)
const later = fc.array(
  fc.constantFrom<RolloutAction>(
    'leave',
    'leave',
    'rotate',
    'restart',
    'reboot',
    'apply',
    'rollback',
    'rollback',
  ),
  { maxLength: 5 },
)

/** Worlds of all kinds; `most`: hosts outside of clusters. */
export function options(most: number): fc.Arbitrary<SimulationOptions> {
  return fc.record({
    // The course of a world: another one is no smaller.
    seed: fc.noShrink(fc.integer({ min: 0, max: 2 ** 32 - 1 })),
    alone: fc.integer({ min: 0, max: most }),
    quarantined: fc.constantFrom(0, 0, 0.05),
    lying: fc.constantFrom(0, 0.02, 0.1),
    forbidding: fc.constantFrom(0, 0, 0.02, 0.1),
    late: fc.constantFrom(0, 0.2),
    joining: fc.constantFrom(0, 0, 0.3),
    askGates: fc.boolean(),
    askJobs: fc.boolean(),
    calamity: fc.boolean(),
    mishaps: fc.boolean(),
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
    byHand: fc.boolean(),
    actions,
    later,
  })
}
