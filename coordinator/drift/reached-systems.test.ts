import { create, toBinary } from '@bufbuild/protobuf'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { publishRevision } from '../api/publish-revision.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { recordStatus } from '../machines/record-status.ts'
import {
  addMachine,
  type SampleFleet,
  sampleFleet,
  sampleRevision,
  streamOf,
  targetOf,
} from '../revisions/testing/sample-fleet.ts'
import { insertFacts } from '../store/facts.ts'
import { insertOperations } from '../store/operations.ts'
import { judgeDrift } from './judge-drift.ts'
import { readDrift } from './read-drift.ts'

const OLAF = 'a'.repeat(64)
const SYSTEM = '/nix/store/new'

/** A machine whose change to revision 1 ended so, and that runs what the change brought. */
async function driftAfter(fleet: SampleFleet, outcomeClass: OutcomeClass, phase: Phase) {
  const targets = [targetOf(fleet.fleetId, 'olaf', { machine: OLAF })]
  const publish = publishRevision({ ...fleet, log: pino({ level: 'silent' }), onPublished: () => {} })
  const { messages, manifest } = sampleRevision(fleet, undefined, { targets })
  await publish(streamOf(messages), { kind: 'local' }, new AbortController().signal)
  await addMachine(fleet.store, OLAF)
  const now = fleet.clock.now().getTime()
  const outcome = create(OutcomeSchema, { class: outcomeClass, phase, storePath: SYSTEM, runs: SYSTEM })
  const facts = create(FactsSchema, {
    nixos: { booted: SYSTEM, current: SYSTEM, profile: SYSTEM, generation: 2n },
  })
  await fleet.store.transact(async tx => {
    await insertFacts(tx, {
      machine: OLAF,
      digest: 'f',
      at: now,
      facts: toBinary(FactsSchema, facts),
    })
    await insertOperations(tx, [
      {
        id: 'op-1',
        machine: OLAF,
        host: 'olaf',
        revision: 1,
        manifest_digest: manifest.digest,
        ordered: now - 9_000,
        ordered_by: 'ann',
        expires: now,
        delivered: now - 8_000,
        phase,
        outcome: toBinary(OutcomeSchema, outcome),
        outcome_class: outcomeClass,
        ended: now - 1_000,
      },
    ])
  })
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const failed = { storePath: '/nix/store/bad', reason: 'sshd', operationId: 'op-1', revision: 1n }
  const said = create(NodeStatusSchema, { program: '/nix/store/agent', quarantined: [failed] })
  await recordStatus({ ...fleet, directory }, OLAF, said)
  const [found] = await readDrift({ ...fleet, directory }, [...directory.entries()])
  if (!found) throw new Error('no machine')
  return found.input
}

it('a system that stays though its Kubernetes failed is what the change left, not a rebuild by hand', async () => {
  await using fleet = await sampleFleet()
  const input = await driftAfter(fleet, OutcomeClass.ACTIVATION_FAILED, Phase.KUBERNETES)
  expect(judgeDrift(input)).toMatchObject({ state: 'in-sync', changedBy: 'operation' })
})

it('a change that failed otherwise reached nothing, and its remedy is by what the node and the store know', async () => {
  await using fleet = await sampleFleet()
  const input = await driftAfter(fleet, OutcomeClass.ACTIVATION_FAILED, Phase.ACTIVATE)
  expect(input).toMatchObject({ reached: undefined, newest: 1, quarantined: [{ revision: 1 }] })
  expect(judgeDrift(input)).toMatchObject({
    state: 'behind',
    remedy: 'muster retry HOST && muster apply HOST',
  })
})
