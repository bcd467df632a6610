import { create, toBinary } from '@bufbuild/protobuf'
import { expect, it } from 'vitest'
import { OutcomeClass, OutcomeSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { insertMachine, newMachineRow } from '../store/machines.ts'
import { insertOperations } from '../store/operations.ts'
import { readDrift } from './read-drift.ts'

const MACHINE = 'ab'.repeat(32)

it('finds the change that got there behind however many plans and failures came after it', async () => {
  await using fleet = await sampleFleet()
  const { store, clock, fleetTargets } = fleet
  const order = (id: string, at: number, action: string, outcome: OutcomeClass) => ({
    id,
    machine: MACHINE,
    host: 'olaf',
    revision: 3,
    manifest_digest: '',
    action,
    ordered: at,
    ordered_by: 'anna',
    expires: 0,
    delivered: at,
    phase: 0,
    outcome_class: outcome,
    ended: at,
    outcome: toBinary(
      OutcomeSchema,
      create(OutcomeSchema, { class: outcome, storePath: `/nix/store/${id}` }),
    ),
  })
  await store.transact(async tx => {
    await insertMachine(
      tx,
      newMachineRow({ id: MACHINE, publicKey: Buffer.from('k'), state: 'active', nowMs: 1, address: '' }),
    )
    await insertOperations(tx, [
      order('first', 1, 'rollback', OutcomeClass.DEGRADED),
      order('applied', 2, 'apply', OutcomeClass.SUCCEEDED),
      ...Array.from({ length: 60 }, (_, at) => order(`plan-${at}`, 10 + at, 'plan', OutcomeClass.SUCCEEDED)),
      ...Array.from({ length: 60 }, (_, at) => order(`bad-${at}`, 100 + at, 'apply', OutcomeClass.REFUSED)),
    ])
  })
  const directory = await MachineDirectory.load(store.db, fleetTargets.current())
  const [found] = await readDrift({ store, clock, directory, fleetTargets }, [...directory.entries()])
  expect(found?.input.reached).toMatchObject({
    operation: 'applied',
    revision: 3,
    storePath: '/nix/store/applied',
  })
  expect([...(found?.input.reachedBefore ?? [])]).toEqual(['/nix/store/first'])
})
