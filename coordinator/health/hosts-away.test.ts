import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DEFAULT_POLICY } from '../../shared/rollout/rollout-policy.ts'
import { type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { freezeSettings, settingsToRow } from '../rollouts/frozen-settings.ts'
import { noteToRow } from '../rollouts/read-record.ts'
import { insertGrant, insertRollout } from '../store/rollouts.ts'
import { hostsAway } from './hosts-away.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

const settings = settingsToRow(
  freezeSettings(DEFAULT_POLICY, undefined, 'apply', { direct: false, prefetch: true, awayMs: 1 }).frozen,
)

/** A rollout with host d in it, to which these steps were granted and ended so; empty: the step is under way. */
async function put(
  state: string,
  steps: readonly (readonly [string, string])[],
  frozen = settings,
): Promise<ReadonlySet<string>> {
  const row = {
    id: 'r1',
    request: 'r1',
    intent: '',
    action: 'apply',
    asked: Buffer.alloc(0),
    revision: 1,
    manifest_digest: '',
    settings: frozen,
    state,
    ends_as: '',
    reason: '',
    why: '',
    started: START.getTime(),
    started_by: 'anna',
    ended: null,
    reverts: '',
    after: '[]',
    generation: 1,
  }
  const host = {
    rollout: 'r1',
    host: 'd',
    machine: 'm-d',
    cluster: 'home',
    role: 'worker',
    position: 0,
    record: noteToRow({ canary: false, after: [], drainLimitMs: undefined, boots: undefined }),
    waits: '[]',
    ended_as: '',
  }
  await fleet.store.transact(async tx => {
    await insertRollout(tx, row, [host])
    for (const [step, outcome] of steps) {
      const grant = {
        rollout: 'r1',
        host: 'd',
        step,
        attempt: 1,
        machine: 'm-d',
        granted: 0,
        operation: step,
      }
      await insertGrant(tx, grant)
      if (outcome === '') continue
      const end = { closed: START.getTime(), outcome, reason: 'why' }
      await tx.updateTable('rollout_grants').set(end).where('step', '=', step).execute()
    }
  })
  return await hostsAway(fleet.store.db, ['d', 'e'])
}

const drained = [
  ['prefetch', 'done'],
  ['drain', 'done'],
] as const

describe('a host whose node has a cordon of ours', () => {
  it.each([
    ['is drained', 'running', drained],
    ['is drained by one that is paused', 'paused', drained],
    ['changes', 'running', [...drained, ['act', '']]],
    ['has its cordon lifted after a failure', 'ending', [...drained, ['act', 'failed'], ['uncordon', '']]],
  ] as const)('is worked on while it %s', async (_, state, steps) => {
    expect(await put(state, steps)).toEqual(new Set(['d']))
  })

  it.each([
    ['waits for a window', 'running', [['prefetch', 'done']]],
    ['is in a rollout that is paused before its turn', 'paused', []],
    ['has failed in it', 'running', [...drained, ['act', 'failed']]],
    [
      'is done in it',
      'running',
      [...drained, ['act', 'done'], ['prove', 'done'], ['soak', 'done'], ['uncordon', 'done']],
    ],
  ] as const)('is not where it %s, however long the rollout stands', async (_, state, steps) => {
    expect(await put(state, steps)).toEqual(new Set())
  })

  it('counts as worked on where its rollout cannot be read', async () => {
    expect(await put('running', [], '{}')).toEqual(new Set(['d']))
  })
})
