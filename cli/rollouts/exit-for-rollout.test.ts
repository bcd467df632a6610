import { expect, it } from 'vitest'
import { RolloutState } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { CliError } from '../exit-codes.ts'
import { sampleRollout } from '../testing/small-rollouts.ts'
import { exitForRollout } from './follow-rollout.ts'

const { SUCCEEDED, FAILED, ABORTED, RUNNING } = RolloutState

function exitOf(state: RolloutState, counts: Record<string, number>): string {
  try {
    exitForRollout({ ...sampleRollout([]), state, counts, reason: 'why' })
    return 'ok'
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    return error.exit
  }
}

it.each<[RolloutState, Record<string, number>, string]>([
  [SUCCEEDED, { done: 2 }, 'ok'],
  [SUCCEEDED, { done: 1, left: 1 }, 'partial'],
  [SUCCEEDED, { left: 1 }, 'refused'],
  [FAILED, { done: 1, failed: 1 }, 'partial'],
  [FAILED, { failed: 1, left: 1 }, 'failed'],
  [FAILED, { left: 2 }, 'refused'],
  [ABORTED, { left: 2 }, 'refused'],
  [ABORTED, { failed: 1, left: 1 }, 'failed'],
  [ABORTED, { done: 1, left: 1 }, 'partial'],
  [RUNNING, { done: 1 }, 'unknown'],
])('a rollout in state %i with %o ends with %s', (state, counts, expected) => {
  expect(exitOf(state, counts)).toBe(expected)
})
