import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ApproveMachineRequestSchema } from '../shared/gen/muster/v1/admission_pb.ts'
import { type GeneratedKey, generateMachineKey } from '../shared/x509/machine-key.ts'
import { approveMachine } from './api/approve-machine.ts'
import { factsBytes, idOf, openTestAuthorities, openTestFleet } from './machines/testing/test-fleet.ts'
import { ChangeFeed } from './operations/change-feed.ts'
import { actionColumns } from './operations/order-action.ts'
import { sessionHooks } from './session-hooks.ts'
import { insertOperations } from './store/operations.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let key: GeneratedKey
beforeAll(async () => {
  made = await openTestAuthorities()
  key = await generateMachineKey(2048)
})
afterAll(() => made[Symbol.asyncDispose]())

it('slows a machine that sends ever new facts, and loses none of them', async () => {
  await using fleet = await openTestFleet(made.authorities)
  const facts = (serial: string) => ({
    system: { serial, uuid: 'U1' },
    disks: [{ name: 'sda', serial: 'D1' }],
  })
  await fleet.ask({ key, facts: facts('S0') })
  const id = idOf(key)
  await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: id }), { kind: 'local' })
  await fleet.ask({ key, facts: facts('S0') })
  // On a busy machine as much time could pass as lets one more through.
  const now = new Date()
  const hooks = sessionHooks({
    ...fleet.deps,
    clock: { now: () => now },
    operationFeed: new ChangeFeed(),
    auditHeads: { shown: undefined },
    clusters: { began: () => {}, report: async () => {}, state: async () => {} },
  })
  const send = async (serial: string) => {
    const began = performance.now()
    const { digest } = await hooks.facts(id, factsBytes(facts(serial)))
    return { digest, tookMs: performance.now() - began }
  }
  const first: number[] = []
  for (let count = 1; count <= 20; count++) first.push((await send(`S${count}`)).tookMs)
  expect(Math.max(...first)).toBeLessThan(1_500)
  // One every two seconds from here on: its stream is read no faster.
  const slowed = await send('S21')
  expect(slowed.tookMs).toBeGreaterThan(1_500)
  expect(fleet.deps.directory.get(id)?.factsDigest).toBe(slowed.digest)
})

it('gives no change to a node while nothing is granted, but what moves nothing, and asks it for all that it knows', async () => {
  await using fleet = await openTestFleet(made.authorities)
  await fleet.ask({ key, facts: { system: { serial: 'S1' } } })
  const id = idOf(key)
  const approval = create(ApproveMachineRequestSchema, { ref: id, host: 'olaf' })
  await approveMachine(fleet.deps)(approval, { kind: 'local' })
  const nowMs = fleet.deps.clock.now().getTime()
  const order = (word: 'reboot' | 'resume' | 'apply' | 'plan') => ({
    id: `o-${word}`,
    machine: id,
    host: 'olaf',
    revision: 0,
    manifest_digest: '',
    ordered: nowMs,
    ordered_by: 'anna',
    expires: nowMs + 3_600_000,
    delivered: null,
    ended: null,
    phase: 0,
    outcome: null,
    outcome_class: 0,
    ...actionColumns({ word }),
  })
  await fleet.deps.store.transact(tx =>
    insertOperations(tx, [order('reboot'), order('resume'), order('apply'), order('plan')]),
  )
  let halted: string | undefined = 'this store is older'
  const hooks = sessionHooks({
    ...fleet.deps,
    operationFeed: new ChangeFeed(),
    auditHeads: { shown: undefined },
    halted: () => halted,
    clusters: { began: () => {}, report: async () => {}, state: async () => {} },
  })
  const given = async () => (await hooks.orders(id)).map(({ operationId }) => operationId).toSorted()
  expect(await given()).toEqual(['o-plan', 'o-resume'])
  expect(await hooks.tellAll(id)).toBe(true)
  halted = undefined
  expect(await given()).toEqual(['o-apply', 'o-plan', 'o-reboot', 'o-resume'])
  expect(await hooks.tellAll(id)).toBe(false)
})
