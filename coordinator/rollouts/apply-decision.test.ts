import { afterEach, beforeEach, expect, it } from 'vitest'
import { operationId } from '../../shared/ids.ts'
import { rolloutOfDrain } from '../clusters/acts/drain-id.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { type SampleFleet, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { grantsOfRollouts, hostsOfRollouts, insertRollout, openRollouts } from '../store/rollouts.ts'
import { applyDecision } from './apply-decision.ts'
import type { Decision } from './plan/decision.ts'

const NOW = new Date('2026-11-30T12:00:00Z')

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

async function begin(id: string): Promise<void> {
  const rollout = {
    id,
    request: 'r',
    intent: '',
    action: 'reboot',
    asked: Buffer.alloc(0),
    revision: 0,
    manifest_digest: '',
    settings: '{}',
    state: 'running',
    ends_as: '',
    reason: '',
    why: '',
    started: NOW.getTime(),
    started_by: 'anna',
    ended: null,
    reverts: '',
    after: '[]',
    generation: 1,
  }
  const host = {
    rollout: id,
    host: 'd',
    machine: 'm-d',
    cluster: 'home',
    role: 'worker',
    position: 0,
    record: '{}',
    waits: '[]',
    ended_as: '',
  }
  await fleet.store.transact(tx => insertRollout(tx, rollout, [host]))
}

it('names a drain, which is the mark of its cordon on the node, with the rollout that it is for', async () => {
  const { store } = fleet
  const directory = await MachineDirectory.load(store.db, fleet.fleetTargets.current())
  const id = operationId(NOW)
  await begin(id)
  const grants = (['drain', 'uncordon'] as const).map(step => ({
    rollout: id,
    host: 'd',
    machine: 'm-d',
    step,
    attempt: 1,
    skipped: undefined,
  }))
  const nothing = { placements: [], opened: [], closings: [], moves: [], waits: new Map() }
  const decision: Decision = { ...nothing, grants }
  const input = { directory, lifetimeMs: 60_000, ownMachine: undefined, backups: new Map() }
  const rollouts = await openRollouts(store.db)
  const hosts = await hostsOfRollouts(store.db, [id])
  const rows = { rollouts, hosts, grants: [], overrides: [] }
  await store.transact(tx => applyDecision(tx, input, rows, decision, NOW))
  const written = await grantsOfRollouts(store.db, [id])
  expect(written.map(({ step, operation }) => [step, rolloutOfDrain(operation)])).toEqual([
    ['drain', id],
    ['uncordon', undefined],
  ])
  for (const { operation } of written) expect(operation.length).toBeLessThanOrEqual(64)
})
