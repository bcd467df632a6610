import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ApproveMachineRequestSchema } from '../../shared/gen/muster/v1/admission_pb.ts'
import { TrustReportSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { ReportFailureRequestSchema } from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { CreateTokenRequestSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { durationFromMs } from '../../shared/time.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { approveMachine } from '../api/approve-machine.ts'
import { createToken } from '../api/create-token.ts'
import { reportFailure } from '../enrolment/report-failure.ts'
import { listEventRows } from '../store/events.ts'
import { admitSession } from './admit-session.ts'
import { recordFacts } from './record-facts.ts'
import { recordTrustReport } from './record-session.ts'
import {
  factsBytes,
  helloOf,
  idOf,
  openTestAuthorities,
  openTestFleet,
  type TestFleet,
} from './testing/test-fleet.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let key: GeneratedKey
beforeAll(async () => {
  made = await openTestAuthorities()
  key = await generateMachineKey(2048)
})
afterAll(() => made?.[Symbol.asyncDispose]())

const eventsOf = (fleet: TestFleet, machine?: string) =>
  listEventRows(fleet.deps.store.db, { ...(machine === undefined ? {} : { machine }), limit: 1_000 })

const localToken = async (fleet: TestFleet) => {
  const request = create(CreateTokenRequestSchema, { lifetime: durationFromMs(3_600_000), uses: 1 })
  return (await createToken(fleet.deps)(request, { kind: 'local' })).token ?? ''
}

describe('events are kept up to a number, so nobody may cause them without end', () => {
  it('not a machine that was let in, by whatever it can say', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const id = idOf(key)
    await fleet.ask({ key, token: await localToken(fleet) })
    for (let i = 1; i <= 60; i++) {
      const report = create(TrustReportSchema, { number: BigInt(i), digest: sha256Hex(String(i)) })
      await recordTrustReport(fleet.deps, id, report)
      const hello = helloOf({ instance: `i${i}`, bootId: `b${i}`, bootCount: BigInt(1 + (i % 2)) })
      await admitSession(fleet.deps, id, hello, '192.0.2.9')
      const system = { serial: `S${i % 2}`, uuid: 'u' }
      await recordFacts(fleet.deps, id, factsBytes({ system, warnings: [String(i)] }))
    }
    expect((await eventsOf(fleet, id)).length).toBe(100)
    // What puts it on hold is not lost with the events, and what an operator does is always recorded.
    expect(fleet.deps.directory.mayAct(id)).toBe(false)
    const before = (await eventsOf(fleet)).length
    await localToken(fleet)
    expect((await eventsOf(fleet)).length).toBe(before + 1)
    fleet.pass(600_001)
    const last = create(TrustReportSchema, { number: 99n, digest: sha256Hex('99') })
    await recordTrustReport(fleet.deps, id, last)
    expect((await eventsOf(fleet, id)).length).toBe(101)
  })

  it('nor a crowd of strangers', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const report = reportFailure(fleet.deps)
    let kept = 0
    for (let i = 0; i < 1_000; i++) {
      fleet.pass(100)
      const request = create(ReportFailureRequestSchema, { class: 'pin', reason: `reason ${i}` })
      const taken = await report(request, { peer: { address: '192.0.2.1', certificate: undefined } }).then(
        () => true,
        () => false,
      )
      if (taken) kept++
      await fleet.deps.refusals.record({
        machine: sha256Hex(String(i)),
        class: 'proof',
        reason: 'no',
        address: '192.0.2.1',
      })
    }
    expect(kept).toBeGreaterThan(50)
    expect((await eventsOf(fleet)).length).toBeLessThanOrEqual(200 + 100 * 0.2 + 1)
  })
})

describe('a stranger’s facts', () => {
  it('are kept as they are and as they were, and not for every time it changed them', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const count = async () =>
      (await fleet.deps.store.db.selectFrom('facts').select('at').where('machine', '=', idOf(key)).execute())
        .length
    for (let i = 0; i < 6; i++) {
      fleet.pass(1_000)
      expect((await fleet.ask({ key, facts: { warnings: [String(i)] } })).case).toBe('waiting')
    }
    expect(await count()).toBe(2)
    await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(key) }), {
      kind: 'local',
    })
    for (let i = 6; i < 9; i++) {
      fleet.pass(1_000)
      await recordFacts(fleet.deps, idOf(key), factsBytes({ warnings: [String(i)] }))
    }
    expect(await count()).toBe(5)
  })
})
