import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { escapeText } from '../../../shared/escape.ts'
import { EnrolmentService } from '../../../shared/gen/muster/v1/enrolment_pb.ts'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
import { OperatorService } from '../../../shared/gen/muster/v1/operator_pb.ts'
import { createClient } from '../../../shared/rpc/client.ts'
import { createClientCredentials } from '../../../shared/x509/client-credentials.ts'
import { allServices, outcomesOf } from '../../support/all-methods.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { events, makeToken, shownMachine, untilEvent } from '../../support/shown.ts'

let fleet: Fleet
const WAITING = 3
const PER_SECOND = 2

beforeAll(async () => {
  fleet = await startFleet({ pendingMachines: WAITING, strangersPerSecond: PER_SECOND })
})

afterAll(() => fleet?.[Symbol.asyncDispose]())

/** Asks until the answer is something else than "too many ask at once". */
async function patiently(raw: RawMachine): Promise<string> {
  const deadline = Date.now() + 20_000
  for (;;) {
    const answer = await raw.enrol()
    if (answer.case !== 'refusal') return answer.case ?? ''
    if (!answer.value.reason.startsWith('too many machines') || Date.now() > deadline) {
      return `${answer.value.class}: ${answer.value.reason}`
    }
    expect(answer.value).toMatchObject({ class: 'full', retry: true })
    expect(answer.value.retryAfterSeconds).toBeGreaterThan(0)
    await new Promise(resolve => setTimeout(resolve, 1000 / PER_SECOND))
  }
}

describe('strangers are bounded', () => {
  it('more of them than wait at most are turned away, and told why; a valid token gets in all the same', async () => {
    for (let i = 0; i < WAITING; i++) expect(await patiently(await RawMachine.make(fleet))).toBe('waiting')
    const late = await RawMachine.make(fleet)
    expect(await patiently(late)).toMatch(/^full: 3 machines wait already; an operator approves or rejects/)
    expect(await shownMachine(fleet, late.id)).toBeUndefined()
    expect((await late.enrol({ token: await makeToken(fleet) })).case).toBe('certificate')

    const { machines } = await fleet.api.listMachines({ states: [MachineState.PENDING] })
    expect(machines).toHaveLength(WAITING)
    await fleet.api.rejectMachine({ ref: machines[0]!.id })
    expect(await patiently(await RawMachine.make(fleet))).toBe('waiting')
  })

  it('so many requests a second and no more; a valid token is not throttled', async () => {
    const raw = await RawMachine.make(fleet)
    const requests = await Promise.all(Array.from({ length: 20 }, () => raw.request()))
    const began = performance.now()
    const answers = await Promise.all(requests.map(request => raw.send(request)))
    // A busy machine takes its time to answer them, in which more may ask.
    const seconds = (performance.now() - began) / 1_000
    const slowed = answers.filter(
      answer => answer.case === 'refusal' && answer.value.reason.startsWith('too many machines'),
    )
    expect(slowed.length).toBeGreaterThanOrEqual(20 - (2 + seconds) * PER_SECOND)
    const token = await makeToken(fleet, { uses: 1 })
    const valued = await RawMachine.make(fleet)
    expect((await valued.enrol({ token })).case).toBe('certificate')
    // A key that was let in may ask as well, with the proof that it holds it.
    expect((await valued.enrol()).case).toBe('certificate')
  })

  it('facts of a stranger are at most 64 KiB', async () => {
    const raw = await RawMachine.make(fleet)
    raw.facts = { warnings: ['x'.repeat(70_000)] }
    expect(await raw.enrol({ token: await makeToken(fleet) })).toMatchObject({
      case: 'refusal',
      value: { class: 'malformed', reason: expect.stringMatching(/^facts: \d+ bytes, at most 65536/) },
    })
    await untilEvent(fleet, raw.id, 'refused', /^malformed: facts/)
    const request = await raw.request({ change: { facts: Buffer.alloc(5_000_000) } })
    await expect(raw.send(request)).rejects.toThrow(/larger than max|RESOURCE_EXHAUSTED/)
  })

  it('T60: what strangers report is bounded in size and number, and shown as their claim', async () => {
    const raw = await RawMachine.make(fleet)
    using client = await raw.enrolmentClient()
    const report = { machine: raw.id, class: 'pin', reason: 'r'.repeat(5_000), serial: 'S' }
    await expect(client.reportFailure(report)).rejects.toThrow(/larger than 4096 bytes/)
    const before = (await events(fleet)).length
    const asked = await Promise.allSettled(
      Array.from({ length: 50 }, (_, i) => client.reportFailure({ ...report, reason: `try ${i}` })),
    )
    const taken = asked.filter(({ status }) => status === 'fulfilled')
    expect(taken.length).toBeLessThanOrEqual(3 * PER_SECOND)
    const refused = asked.find(result => result.status === 'rejected')
    expect(String(refused?.reason)).toMatch(/too many reports at once; report again in \d+ s/)
    expect((await events(fleet)).length - before).toBe(taken.length)
    // One refusal that repeats is one event.
    for (let i = 0; i < 5; i++) await raw.enrol({ token: 'no.token' })
    const refusals = (await events(fleet)).filter(({ machine }) => machine === raw.id)
    expect(refusals.filter(({ class: kind }) => kind === 'refused').length).toBeLessThanOrEqual(1)
  })

  it('N16: strangers reach the enrolment service and nothing else', async () => {
    const { authorityPem } = await fleet.api.getFleet({})
    const credentials = createClientCredentials({ caPem: [authorityPem] })
    const others = (await allServices()).filter(({ typeName }) => typeName !== EnrolmentService.typeName)
    expect(others.length).toBeGreaterThan(3)
    for (const service of others) {
      using client = createClient(service, `127.0.0.1:${fleet.enrolmentPort}`, credentials)
      for (const [method, outcome] of await outcomesOf(service, client))
        expect(outcome, method).toBe('UNIMPLEMENTED')
    }
    using onFleet = createClient(OperatorService, `127.0.0.1:${fleet.fleetPort}`, credentials)
    await expect(onFleet.getFleet({}, { deadlineMs: 5_000 })).rejects.toThrow()
  })
})

describe('T12: facts are data', () => {
  const hostile = [
    '"; DROP TABLE machines; --',
    "'; rm -rf / #",
    '\u0024{builtins.readFile "/etc/shadow"}',
    '$(touch /tmp/owned) `id`',
    '../../../../etc/passwd',
    'line\nbreak\r\nand\ttab',
    '\u001b[2Jcleared\u0007',
    'left \u202eright\u2066 hidden\u200b',
    '<script>alert(1)</script>',
    '\u0000nul',
    '__proto__',
  ]

  it('whatever a machine says is kept as it was said, and shown so that it does nothing', async () => {
    await using fleet = await startFleet()
    for (const text of hostile) {
      const raw = await RawMachine.make(fleet)
      raw.facts = {
        system: { serial: text, uuid: text, product: text, vendor: text, hostname: text, machineId: text },
        disks: [{ name: text, serial: text, path: text, model: text }],
        interfaces: [{ name: text, mac: text, physical: true }],
        warnings: [text],
        sshHostKeys: [text],
      }
      expect((await raw.enrol()).case).toBe('waiting')
      await fleet.api.approveMachine({ ref: raw.id })
      expect((await raw.enrol()).case).toBe('certificate')
      const { machines } = await fleet.api.listMachines({ withFacts: true })
      const shown = machines.find(({ id }) => id === raw.id)
      expect(fromBinary(FactsSchema, shown?.facts ?? new Uint8Array()).system?.vendor).toBe(text)
      expect(shown?.serial).toBe(text.trim())
      await fleet.api.evictMachine({ ref: raw.id, reason: 'enough' })
    }
    for (const command of [['machines'], ['machines', '-o', 'wide'], ['machines', '-o', 'csv']]) {
      const printed = await fleet.ok(...command)
      // Lines of the table itself apart, nothing is left that escaping would change.
      expect(escapeText(printed.replaceAll(/\r?\n/g, ' '))).toBe(printed.replaceAll(/\r?\n/g, ' '))
    }
    const printed: { machines?: unknown } = await fleet.json('machines')
    expect(JSON.stringify(printed)).toContain('DROP TABLE')
  })

  it('a name made of facts that is no host name is refused, not repaired', async () => {
    await using fleet = await startFleet()
    await using operator = await addOperator(fleet)
    await operator.publish({
      toml: '[groups.edge]\nadmit = "facts.system.product == \'N100\'"\nname = "edge-{serial}"\n',
    })
    for (const serial of ['../../x', 'a b', 'a\nb', '', 'x'.repeat(80), '\u0024{x}']) {
      const raw = await RawMachine.make(fleet)
      raw.facts = { system: { product: 'N100', serial } }
      expect((await raw.enrol()).case, JSON.stringify(serial)).toBe('waiting')
      expect((await shownMachine(fleet, raw.id))?.host).toBe('')
    }
    const good = await RawMachine.make(fleet)
    good.facts = { system: { product: 'N100', serial: 'OK1' } }
    expect((await good.enrol()).case).toBe('certificate')
  })
})
