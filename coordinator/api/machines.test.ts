import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  ApproveMachineRequestSchema,
  BanMachineRequestSchema,
  BindHostRequestSchema,
  EvictMachineRequestSchema,
  RejectMachineRequestSchema,
  ReleaseMachineRequestSchema,
  UnbindHostRequestSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { ListEventsRequestSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import { GetFleetRequestSchema } from '../../shared/gen/muster/v1/fleet_pb.ts'
import {
  GetMachineRequestSchema,
  ListMachinesRequestSchema,
  MachineState,
} from '../../shared/gen/muster/v1/machine_pb.ts'
import { CreateTokenRequestSchema } from '../../shared/gen/muster/v1/token_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { recordFacts } from '../machines/record-facts.ts'
import { resolveMachine } from '../machines/resolve.ts'
import {
  factsBytes,
  idOf,
  openTestAuthorities,
  openTestFleet,
  type TestFleet,
  targetOf,
} from '../machines/testing/test-fleet.ts'
import { insertMachine, newMachineRow } from '../store/machines.ts'
import { approveMachine } from './approve-machine.ts'
import { banMachine } from './ban-machine.ts'
import { bindHost } from './bind-host.ts'
import type { Caller } from './caller.ts'
import { createToken } from './create-token.ts'
import { evictMachine } from './evict-machine.ts'
import { getFleet } from './get-fleet.ts'
import { getMachine } from './get-machine.ts'
import { listEvents } from './list-events.ts'
import { listMachines } from './list-machines.ts'
import { rejectMachine } from './reject-machine.ts'
import { releaseMachine } from './release-machine.ts'
import { unbindHost } from './unbind-host.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let keys: readonly GeneratedKey[]
beforeAll(async () => {
  made = await openTestAuthorities()
  keys = await Promise.all([generateMachineKey(2048), generateMachineKey(2048), generateMachineKey(2048)])
})
afterAll(() => made[Symbol.asyncDispose]())

const ann: Caller = { kind: 'operator', id: 'a'.repeat(64), name: 'ann' }
const signal = new AbortController().signal
const id = (index: number) => idOf(keys[index] ?? { privateKeyPem: '', publicKeyDer: Buffer.alloc(0) })

/** Three machines: the first two were let in, the third waits; each has a disk of another size. */
async function openFleet() {
  const fleet = await openTestFleet(made.authorities)
  for (const [index, key] of keys.entries()) {
    const disks = [{ name: 'sda', serial: `D${index}`, size: BigInt(index + 1) * 1_000_000_000_000n }]
    await fleet.ask({ key, facts: { system: { serial: `S${index}`, product: 'N100' }, disks } })
    if (index < 2) await approve(fleet, { ref: id(index), labels: { rack: `r${index}` } })
  }
  return fleet
}

const approve = (fleet: TestFleet, request: MessageInitShape<typeof ApproveMachineRequestSchema>) =>
  approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, request), ann)
const bind = (fleet: TestFleet, host: string, machine: string) =>
  bindHost(fleet.deps)(create(BindHostRequestSchema, { host, machine }), ann)
const list = (fleet: TestFleet, request: MessageInitShape<typeof ListMachinesRequestSchema> = {}) =>
  listMachines(fleet.deps)(create(ListMachinesRequestSchema, request), ann, signal)
const idsOf = (answer: Awaited<ReturnType<typeof list>>) => answer.machines?.map(machine => machine.id)

describe('listMachines', () => {
  it('selects over facts, labels, state and host', async () => {
    await using fleet = await openFleet()
    const all = [id(0), id(1), id(2)].toSorted()
    expect(idsOf(await list(fleet))).toEqual(all)
    const where = async (text: string) => idsOf(await list(fleet, { where: text }))
    expect(await where('facts.disks.exists(d, d.size > 2500000000000)')).toEqual([id(2)])
    expect(await where("'rack' in labels && labels.rack == 'r1'")).toEqual([id(1)])
    expect(await where("status.state == 'pending' && 'waiting' in status.conditions")).toEqual([id(2)])
    expect(idsOf(await list(fleet, { states: [MachineState.PENDING] }))).toEqual([id(2)])
    await bind(fleet, 'olaf', id(0))
    expect(await where("host == 'olaf'")).toEqual([id(0)])
    await fleet.target(1, [targetOf({ host: 'olaf', labels: { rack: 'signed' } })])
    expect(await where("'rack' in labels && labels.rack == 'signed'")).toEqual([id(0)])
    const signed = (await list(fleet, {})).machines?.find(machine => machine.id === id(0))
    expect(signed?.labels).toMatchObject({ rack: 'signed' })
  })

  it('names the machines that a selector cannot judge, instead of leaving them out silently', async () => {
    await using fleet = await openFleet()
    const answer = await list(fleet, { where: "labels.rack == 'r0'" })
    expect(idsOf(answer)).toEqual([id(0)])
    expect(answer.errors).toMatchObject([{ machine: id(2), reason: expect.stringContaining('rack') }])
    await expect(list(fleet, { where: 'labels.' })).rejects.toThrow('where:')
    await expect(list(fleet, { limit: 10_001 })).rejects.toThrow('limit')
  })

  it('pages without leaving out or repeating a machine, and sends facts only where asked', async () => {
    await using fleet = await openFleet()
    const seen: (string | undefined)[] = []
    for (let pageToken = '', pages = 0; pages < 9; pages++) {
      const answer = await list(fleet, { limit: 2, pageToken })
      seen.push(...(idsOf(answer) ?? []))
      pageToken = answer.nextPageToken ?? ''
      if (pageToken === '') break
    }
    expect(seen).toEqual([id(0), id(1), id(2)].toSorted())
    expect((await list(fleet)).machines?.every(machine => machine.facts === undefined)).toBe(true)
    expect(
      (await list(fleet, { withFacts: true })).machines?.every(machine => machine.facts !== undefined),
    ).toBe(true)
  })

  it('lists five thousand machines within seconds', async () => {
    await using fleet = await openTestFleet(made.authorities)
    const { store, directory } = fleet.deps
    await store.transact(async tx => {
      for (let index = 0; index < 5_000; index++) {
        const machine = index.toString(16).padStart(64, '0')
        const row = newMachineRow({
          id: machine,
          publicKey: Buffer.alloc(1),
          state: 'active',
          nowMs: 0,
          address: '',
        })
        await insertMachine(tx, row)
      }
    })
    fleet.deps.directory = await MachineDirectory.load(store.db, directory.targets)
    const started = performance.now()
    expect((await list(fleet, { where: "status.state == 'active'" })).machines).toHaveLength(5_000)
    expect(performance.now() - started).toBeLessThan(10_000)
  })
})

describe('bindings by hand', () => {
  it('bind, are shown as such, survive a restart, and are given up', async () => {
    await using fleet = await openFleet()
    const { machine } = await bind(fleet, 'olaf', id(0).slice(0, 8))
    expect(machine).toMatchObject({ host: 'olaf', boundBy: 4 })
    expect(resolveMachine(fleet.deps.directory, 'olaf').id).toBe(id(0))
    const again = await MachineDirectory.load(fleet.deps.store.db, fleet.deps.directory.targets)
    expect(again.assignment(id(0))).toMatchObject({ kind: 'host', host: 'olaf' })
    await unbindHost(fleet.deps)(create(UnbindHostRequestSchema, { host: 'olaf' }), ann)
    expect(fleet.deps.directory.assignment(id(0))).toMatchObject({ kind: 'none' })
  })

  it('name a machine by its host while it is one, and say whose the host was afterwards', async () => {
    await using fleet = await openFleet()
    await fleet.target(1, [targetOf({ host: 'elsa', binding: { serial: 'S1' } }), targetOf({ host: 'nas' })])
    expect(resolveMachine(fleet.deps.directory, 'elsa').id).toBe(id(1))
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: 'elsa' }), ann)
    expect(() => resolveMachine(fleet.deps.directory, 'elsa')).toThrow(
      `host elsa was machine ${id(1).slice(0, 12)}, which was evicted; name it by its id, or \`muster bind elsa`,
    )
    expect(() => resolveMachine(fleet.deps.directory, 'nas')).toThrow(
      'no machine is host nas of the fleet file',
    )
  })

  it('are refused where the host is taken, unknown, or tied to other hardware by the file', async () => {
    await using fleet = await openFleet()
    await fleet.target(1, [
      targetOf({ host: 'olaf', binding: { diskSerial: 'D0' } }),
      targetOf({ host: 'nas' }),
      targetOf({ host: 'elsa', binding: { serial: 'nobody' } }),
    ])
    await expect(bind(fleet, 'olaf', id(1))).rejects.toThrow(
      `the fleet file makes machine ${id(0).slice(0, 12)} olaf; change [hosts.olaf] there`,
    )
    await expect(bind(fleet, 'sven', id(1))).rejects.toThrow('has no host sven')
    await expect(bind(fleet, 'elsa', id(1))).rejects.toThrow('serial nobody')
    await expect(bind(fleet, 'nas', id(0))).rejects.toThrow('makes this machine olaf')
    await expect(bind(fleet, 'Nas', id(1))).rejects.toThrow('lower-case')
    await bind(fleet, 'nas', id(1))
    await expect(
      unbindHost(fleet.deps)(create(UnbindHostRequestSchema, { host: 'olaf' }), ann),
    ).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringContaining('by the fleet file'),
    })
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: id(1) }), ann)
    expect(fleet.deps.directory.claimants('nas')).toEqual([])
  })
})

describe('operators’ verbs', () => {
  it('refuse what the machine’s state does not allow, and say what would', async () => {
    await using fleet = await openFleet()
    const reject = (ref: string) =>
      rejectMachine(fleet.deps)(create(RejectMachineRequestSchema, { ref }), ann)
    await expect(reject(id(0))).rejects.toThrow('muster evict')
    await expect(
      evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: id(2) }), ann),
    ).rejects.toThrow('muster reject')
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: id(0) }), ann)
    await expect(reject(id(0))).rejects.toThrow('is evicted; it has no identity')
    await banMachine(fleet.deps)(create(BanMachineRequestSchema, { ref: id(0) }), ann)
    for (const sendAway of [
      reject(id(0)),
      evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: id(0) }), ann),
    ]) {
      await expect(sendAway).rejects.toThrow(/was banned, which is for good: it has nothing to lose$/)
    }
    await expect(
      releaseMachine(fleet.deps)(create(ReleaseMachineRequestSchema, { ref: id(0) }), ann),
    ).rejects.toThrow('nothing holds')
    await expect(approve(fleet, { ref: 'no-such-host' })).rejects.toThrow('no machine is host no-such-host')
    await expect(approve(fleet, { ref: '' })).rejects.toThrow('ref')
    await fleet.target(1, [targetOf({ host: 'nas' })])
    await expect(approve(fleet, { ref: 'nas' })).rejects.toThrow(
      /host nas of the fleet file yet; .*muster bind nas/,
    )
    await expect(approve(fleet, { ref: id(2), labels: { 'bad key': 'x' } })).rejects.toThrow('labels bad key')
  })

  it('approve with a host binds it in the same step, or does neither', async () => {
    await using fleet = await openFleet()
    await bind(fleet, 'olaf', id(0))
    await expect(approve(fleet, { ref: id(2), host: 'olaf' })).rejects.toThrow('is machine')
    expect(fleet.deps.directory.get(id(2))?.state).toBe('pending')
    const { machine } = await approve(fleet, { ref: id(2), host: 'nas' })
    expect(machine).toMatchObject({ state: MachineState.ENROLLED, host: 'nas', admittedBy: 'operator ann' })
  })

  it('leave a record of who did what', async () => {
    await using fleet = await openFleet()
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: id(0), reason: 'sold' }), ann)
    const { events } = await listEvents(fleet.deps)(create(ListEventsRequestSchema, { ref: id(0) }), ann)
    expect(events?.[0]).toMatchObject({ class: 'evicted', reason: 'sold', actor: 'ann', machine: id(0) })
    const newest = events?.[0]?.id ?? 0n
    const later = await listEvents(fleet.deps)(create(ListEventsRequestSchema, { after: newest }), ann)
    expect(later.events).toEqual([])
  })

  it('ask for a token’s lifetime and bound everything about it', async () => {
    await using fleet = await openFleet()
    const token = (request: MessageInitShape<typeof CreateTokenRequestSchema>) =>
      createToken(fleet.deps)(create(CreateTokenRequestSchema, request), ann)
    const hour = durationFromMs(3_600_000)
    await expect(token({ uses: 1 })).rejects.toThrow('lifetime')
    await expect(token({ uses: 1, lifetime: durationFromMs(367 * 86_400_000) })).rejects.toThrow('lifetime')
    await expect(token({ uses: 0, lifetime: hour })).rejects.toThrow('uses')
    await expect(token({ uses: 10_001, lifetime: hour })).rejects.toThrow('uses')
    await expect(token({ uses: 2, host: 'olaf', lifetime: hour })).rejects.toThrow('one use')
  })
})

describe('getMachine', () => {
  it('shows the newest facts and as much of their history as asked for', async () => {
    await using fleet = await openFleet()
    for (let memory = 1; memory <= 3; memory++) {
      fleet.pass(1_000)
      await recordFacts(fleet.deps, id(0), factsBytes({ memory: { total: BigInt(memory) } }))
    }
    const answer = await getMachine(fleet.deps)(
      create(GetMachineRequestSchema, { ref: id(0), history: 2 }),
      ann,
    )
    expect(answer.machine?.facts).toEqual(Buffer.from(factsBytes({ memory: { total: 3n } })))
    expect(answer.history).toHaveLength(2)
    expect(answer.events?.map(event => event.class)).toContain('approved')
  })
})

describe('getFleet', () => {
  it('counts machines, names hosts without one, and says what is wrong', async () => {
    await using fleet = await openFleet()
    await fleet.target(0, [
      targetOf({ host: 'olaf', binding: { diskSerial: 'D0' } }),
      targetOf({ host: 'nas' }),
    ])
    fleet.online.add(id(0))
    const deps = {
      ...fleet.deps,
      started: new Date(),
      enrolmentAddress: () => 'hub.example:7443',
      otherProblems: () => ['the disk is full'],
    }
    const answer = await getFleet(deps)(create(GetFleetRequestSchema), ann)
    expect(answer).toMatchObject({
      machinesByState: { pending: 1n, enrolled: 2n, active: 0n },
      online: 1n,
      unboundHosts: ['nas'],
      caPin: made.authorities.shownPin,
    })
    expect(answer.problems).toEqual([expect.stringContaining('muster trust set'), 'the disk is full'])
  })
})
