import { fromBinary } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { ClusterService } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { EnrolmentService } from '../../../shared/gen/muster/v1/enrolment_pb.ts'
import { ManifestSchema, TargetSchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { OperatorService } from '../../../shared/gen/muster/v1/operator_pb.ts'
import { RolloutService } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { createClient } from '../../../shared/rpc/client.ts'
import { createClientCredentials } from '../../../shared/x509/client-credentials.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { allServices, outcomeOf, outcomesOf } from '../../support/all-methods.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { events, makeToken, shownMachine, until, untilEvent } from '../../support/shown.ts'

const APPLY_NEWEST = { case: 'apply' as const, value: {} }

let fleet: Fleet
let operator: Operator
let olaf: RawMachine
let other: RawMachine
let hostless: RawMachine

beforeAll(async () => {
  fleet = await startFleet()
  operator = await addOperator(fleet)
  // Orders lie ready here for machines that are away, beside each other.
  await operator.publish({ toml: '[rollout]\nmax-unavailable = 2\n[hosts.olaf]\n[hosts.other]\n' })
  const machines = ['olaf', 'other', ''].map(async host => {
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet, { host }) })
    return raw
  })
  ;[olaf, other, hostless] = (await Promise.all(machines)) as [RawMachine, RawMachine, RawMachine]
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

describe('the certificate of a machine', () => {
  it('what was seen live with the nearest peer: opens not one method beside the agents’ own, so nobody reads the fleet by it', async () => {
    const before = await fleet.api.listMachines({})
    const asked = new Map<string, string>()
    for (const service of await allServices()) {
      if (service.typeName === AgentService.typeName) continue
      using client = await olaf.fleetClient(service)
      for (const [method, outcome] of await outcomesOf(service, client)) asked.set(method, outcome)
    }
    // What operators call is there, and refused; what belongs to other listeners is not there at all.
    const refused = [...asked].filter(([, outcome]) => outcome === 'PERMISSION_DENIED').map(([name]) => name)
    const operators = [OperatorService, RolloutService, ClusterService]
    expect(refused.toSorted()).toEqual(
      operators.flatMap(({ name, methods }) => methods.map(method => `${name}.${method.name}`)).toSorted(),
    )
    const others = [...asked].filter(([, outcome]) => outcome !== 'PERMISSION_DENIED')
    expect(new Set(others.map(([name]) => name.split('.')[0]))).toEqual(
      new Set(['EnrolmentService', 'LocalService']),
    )
    expect(new Set(others.map(([, outcome]) => outcome)), JSON.stringify(others)).toEqual(
      new Set(['UNIMPLEMENTED']),
    )
    expect((await fleet.api.listMachines({})).machines.map(({ id }) => id)).toEqual(
      before.machines.map(({ id }) => id),
    )
  })

  it('reads its own target and no other', async () => {
    using client = await olaf.fleetClient(AgentService)
    const { envelope, target } = await client.getRevision({ number: 1n })
    expect(fromBinary(TargetSchema, target).host).toBe('olaf')
    // The manifest names the others by digest alone; what they are to become is not in it.
    const manifest = fromBinary(ManifestSchema, envelope?.payload ?? new Uint8Array())
    expect(manifest.hosts.map(({ host }) => host)).toEqual(['olaf', 'other'])
    await expect(client.getRevision({ number: 2n })).rejects.toThrow(/no target/)
    await expect(client.getRevision({ number: 0n })).rejects.toThrow(/names no revision/)

    using none = await hostless.fleetClient(AgentService)
    await expect(none.getRevision({ number: 1n })).rejects.toThrow(/bound to no host/)
    expect(await outcomeOf(none.downloadTree({ number: 1n }))).toBe('NOT_FOUND')
  })

  it('reports no operation of another machine, and the attempt is shown', async () => {
    const active = await other.session()
    await active.untilReceived('welcome')
    const { operations } = await fleet.api.giveOrders({
      refs: ['other'],
      requestId: randomId(),
      action: APPLY_NEWEST,
    })
    const operationId = operations[0]?.operationId ?? ''
    await using session = await olaf.session()
    await session.untilReceived('welcome')
    session.send({
      message: {
        case: 'operation',
        value: { operationId, revision: 1n, phases: [{ sequence: 1n, phase: Phase.VERIFY }] },
      },
    })
    expect(await session.untilEnded()).toMatch(/belongs to another machine/)
    await untilEvent(fleet, olaf.id, 'foreign-operation', /reported operation/)
    const { operations: shown } = await fleet.api.listOperations({ operationIds: [operationId] })
    expect(shown[0]).toMatchObject({ machine: other.id, phases: [] })
    await active[Symbol.asyncDispose]()
  })

  it('writes no log line into another machine’s operation', async () => {
    const { operations } = await fleet.api.listOperations({ ref: 'other' })
    const operationId = operations[0]?.operationId ?? ''
    await using session = await olaf.session()
    await session.untilReceived('welcome')
    session.send({ message: { case: 'log', value: { operationId, first: 0n, lines: ['forged line'] } } })
    session.beat()
    await until('an answer', () =>
      session.kinds().includes('heartbeatAck') || session.end !== undefined ? true : undefined,
    )
    const lines: string[] = []
    for await (const part of fleet.api.followLogs({ ref: 'other', operationId })) {
      lines.push(...part.lines)
      if (part.end) break
    }
    expect(lines).toEqual([])
  })

  it('speaks for itself alone: what it says lands under the id that its connection proves', async () => {
    await using session = await olaf.session()
    await session.untilReceived('welcome')
    session.send({ message: { case: 'event', value: { class: 'told', reason: `I am ${other.id}` } } })
    const told = await untilEvent(fleet, olaf.id, 'told')
    expect(told.actor).toBe(olaf.id)
    expect((await events(fleet, other.id)).some(({ class: kind }) => kind === 'told')).toBe(false)
  })

  it('of another authority opens nothing', async () => {
    await using elsewhere = await startFleet()
    const foreign = await RawMachine.make(elsewhere)
    await foreign.enrol({ token: await makeToken(elsewhere) })
    const { authorityPem } = await fleet.api.getFleet({})
    const identity = { chainPem: foreign.chainPem, privateKeyPem: foreign.key.privateKeyPem }
    const credentials = createClientCredentials({ caPem: [authorityPem], identity })
    using client = createClient(AgentService, `127.0.0.1:${fleet.fleetPort}`, credentials)
    await expect(client.getTrust({}, { deadlineMs: 5_000 })).rejects.toThrow()
    await until('the log', () => fleet.coordinator?.log().find(({ msg }) => msg === 'connection refused'))
    expect(await shownMachine(fleet, foreign.id)).toBeUndefined()
  })

  it('is not needed on the enrolment listener and not accepted there for anything else', async () => {
    using client = await olaf.fleetClient(EnrolmentService)
    await expect(client.begin({ protocolMin: 1, protocolMax: 1 })).rejects.toThrow(/does not implement/)
  })
})

describe('the certificate of an operator', () => {
  it('opens the operators’ service from afar, is recorded by name, and ends with its removal, live streams too', async () => {
    const key = await generateMachineKey(2048)
    const { chainPem, authorityPem } = await fleet.api.addOperator({
      name: 'ada',
      publicKey: key.publicKeyDer,
    })
    const credentials = createClientCredentials({
      caPem: [authorityPem],
      identity: { chainPem, privateKeyPem: key.privateKeyPem },
    })
    using remote = createClient(OperatorService, `127.0.0.1:${fleet.fleetPort}`, credentials)
    expect((await remote.listMachines({})).machines.length).toBeGreaterThan(0)
    await remote.createToken({ lifetime: { seconds: 60n }, uses: 1 })
    expect((await events(fleet)).find(({ class: kind }) => kind === 'token-created')?.actor).toBe('ada')
    // It is no machine.
    using asMachine = createClient(AgentService, `127.0.0.1:${fleet.fleetPort}`, credentials)
    await expect(asMachine.getTrust({})).rejects.toThrow(/only a machine may call this/)

    // What ada hears now: the output of an operation that waits for its machine, which goes on until somebody ends it.
    const { operations } = await fleet.api.giveOrders({
      refs: ['olaf'],
      requestId: randomId(),
      action: APPLY_NEWEST,
    })
    const operationId = operations[0]?.operationId ?? ''
    let reports = 0
    const heard = (async () => {
      try {
        for await (const { operation } of remote.watchOperations({ operationIds: [operationId] })) {
          if (operation) reports += 1
        }
        return `ended after ${reports}`
      } catch (error) {
        return `${reports}: ${String(error)}`
      }
    })()
    let isOver = false
    void heard.then(() => {
      isOver = true
    })
    await until('a report', () => (reports > 0 ? true : undefined))
    await new Promise(resolve => setTimeout(resolve, 1_000))
    expect(isOver).toBe(false)
    await fleet.api.removeOperator({ name: 'ada' })
    expect(await heard).toMatch(/^[1-9][0-9]*: .*this operator was removed/)
    await expect(remote.listMachines({})).rejects.toThrow(/removed, or is not known/)
    await expect(fleet.api.addOperator({ name: 'ada', publicKey: key.publicKeyDer })).rejects.toThrow(
      /removed/,
    )
  })

  it('a machine’s key cannot be made an operator’s', async () => {
    await expect(fleet.api.addOperator({ name: 'sly', publicKey: olaf.key.publicKeyDer })).rejects.toThrow(
      /is that of a machine/,
    )
  })

  it('nor does an operator’s key that enrols as a machine open more with that certificate than a machine’s', async () => {
    const raw = await RawMachine.make(fleet)
    await fleet.api.addOperator({ name: 'both', publicKey: raw.key.publicKeyDer })
    expect((await raw.enrol({ token: await makeToken(fleet) })).case).toBe('certificate')
    using client = await raw.fleetClient(OperatorService)
    await expect(client.getFleet({})).rejects.toMatchObject({ code: status.PERMISSION_DENIED })
  })
})
