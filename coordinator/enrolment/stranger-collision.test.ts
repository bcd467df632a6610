import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ApproveMachineRequestSchema } from '../../shared/gen/muster/v1/admission_pb.ts'
import { CreateTokenRequestSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { approveMachine } from '../api/approve-machine.ts'
import { createToken } from '../api/create-token.ts'
import { recordFacts } from '../machines/record-facts.ts'
import {
  factsBytes,
  idOf,
  openTestAuthorities,
  openTestFleet,
  type TestFleet,
} from '../machines/testing/test-fleet.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let key: GeneratedKey
let strangersKey: GeneratedKey
beforeAll(async () => {
  made = await openTestAuthorities()
  ;[key, strangersKey] = await Promise.all([generateMachineKey(2048), generateMachineKey(2048)])
})
afterAll(() => made?.[Symbol.asyncDispose]())

const box = { system: { serial: 'S1', uuid: 'u1' }, disks: [{ name: 'sda', serial: 'D1' }] }

async function tokenFor(fleet: TestFleet): Promise<string> {
  const request = create(CreateTokenRequestSchema, { lifetime: durationFromMs(3_600_000), uses: 1 })
  return (await createToken(fleet.deps)(request, { kind: 'local' })).token ?? ''
}

const classes = (fleet: TestFleet, of: GeneratedKey) =>
  fleet.deps.directory.get(idOf(of))?.conditions.map(condition => condition.class)

describe('a stranger that claims the serial and the disks of a machine', () => {
  it('T7: is refused and shown, and does not keep the machine from orders and certificates', async () => {
    await using fleet = await openTestFleet(made.authorities)
    await fleet.ask({ key, token: await tokenFor(fleet), facts: box })
    const claim = await fleet.ask({ key: strangersKey, facts: box })
    expect(claim).toMatchObject({ case: 'refusal', value: { class: 'conflict' } })
    expect(classes(fleet, strangersKey)).toEqual(['collision'])
    expect(fleet.deps.directory.mayAct(idOf(key))).toBe(true)
    expect((await fleet.ask({ key, facts: box })).case).toBe('certificate')
    const entry = fleet.deps.directory.get(idOf(key))
    expect(entry && fleet.deps.directory.alike(entry)).toEqual([idOf(strangersKey)])
    // Nor when the machine has something new to tell.
    await recordFacts(fleet.deps, idOf(key), factsBytes({ ...box, memory: { total: 5n } }))
    expect(fleet.deps.directory.mayAct(idOf(key))).toBe(true)
    await expect(
      approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(strangersKey) }), {
        kind: 'local',
      }),
    ).rejects.toThrow(/collision/)
  })

  it('does not keep it out by being there first; it is held itself once the machine came with a token', async () => {
    await using fleet = await openTestFleet(made.authorities)
    expect((await fleet.ask({ key: strangersKey, facts: box })).case).toBe('waiting')
    expect((await fleet.ask({ key, token: await tokenFor(fleet), facts: box })).case).toBe('certificate')
    expect(fleet.deps.directory.mayAct(idOf(key))).toBe(true)
    expect(classes(fleet, key)).toEqual([])
    expect(classes(fleet, strangersKey)).toEqual(['collision'])
    expect(await fleet.ask({ key: strangersKey, facts: box })).toMatchObject({ case: 'refusal' })
  })
})
