import { afterEach, beforeEach, expect, it } from 'vitest'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import type { SessionMessage } from '../sessions/live-session.ts'
import type { Observation } from './cluster-snapshot.ts'
import { OrderSender } from './order-sender.ts'

const MINTER = 'a'.repeat(64)
const JOINER = 'b'.repeat(64)
const OLD_ID = 'c'.repeat(32)
const NEW_ID = 'd'.repeat(32)

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
  await addMachine(fleet.store, JOINER, { machine_id: OLD_ID })
})
afterEach(() => fleet[Symbol.asyncDispose]())

/** With which machine id a token for the joiner is asked for. */
async function askedWith(seen: Pick<Observation, 'address' | 'machineId'> | undefined) {
  const sent: SessionMessage[] = []
  const sender = new OrderSender({
    db: fleet.store.db,
    clock: fleet.clock,
    directory: { mayAct: () => true },
    fleetTargets: fleet.fleetTargets,
    sessions: {
      live: () => ({ instance: 'i', bootId: 'b', startedMs: 0, disputed: false }),
      send: (_, message) => sent.push(message) > 0,
    },
    seenOf: machine => (machine === JOINER ? seen : undefined),
  })
  const expiresMs = START.getTime() + 600_000
  const intent = {
    kind: 'mint',
    operation: 'o1',
    host: 'n5',
    role: 'worker',
    joiner: JOINER,
    expiresMs,
  } as const
  await sender.sendIntents(MINTER, 'home', '', [{ intent, secret: undefined }])
  const message = sent.find(each => each.message?.case === 'clusterOrder')?.message
  const action = message?.case === 'clusterOrder' ? message.value.action : undefined
  return action?.case === 'mint' ? action.value.machineId : undefined
}

it('asks for a token with the machine id that the joiner has, not with that of its facts of before', async () => {
  expect(await askedWith({ machineId: NEW_ID })).toBe(NEW_ID)
})

it('goes by the facts of a machine that does not tell its machine id with its state', async () => {
  expect(await askedWith(undefined)).toBe(OLD_ID)
  expect(await askedWith({ address: '10.0.0.1' })).toBe(OLD_ID)
})
