import { create, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { credentials } from '@grpc/grpc-js'
import { beforeAll, describe, expect, it } from 'vitest'
import { ClusterReportSchema } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { LocalService } from '../../shared/gen/muster/v1/local_pb.ts'
import { TrustChainSchema } from '../../shared/gen/muster/v1/trust_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { sampleTrust } from '../../shared/revision/testing/sample-fleet.ts'
import { createClient } from '../../shared/rpc/client.ts'
import { revisionOf } from '../clusters/testing/cluster-node.ts'
import { MADE_UP_FACTS, MadeUpMachine, madeUpDriver } from '../clusters/testing/made-up-driver.ts'
import { madeUpRuntime } from '../drivers/testing/made-up-runtime.ts'
import { statusText } from '../local/commands.ts'
import { AgentUnderTest } from './testing/agent-under-test.ts'
import { type Directive, Hub, type HubKeys, makeHubKeys } from './testing/hub.ts'

let keys: HubKeys
beforeAll(async () => {
  keys = await makeHubKeys()
})

const poll = (value: () => unknown) => expect.poll(value, { timeout: 10_000, interval: 10 })

/** An agent on a machine whose Kubernetes is made up, connected to a coordinator that a test speaks for. */
async function connected(hub: Hub, machine: MadeUpMachine): Promise<AgentUnderTest> {
  const test = await AgentUnderTest.prepare({
    coordinator: hub.coordinator,
    caPin: keys.authority.pin,
    trustPin: sampleTrust.trust.digest,
  })
  test.clusterDoor = () => ({
    openDriver: async () => ({ kind: 'driver', driver: madeUpDriver(machine) }),
    readDisk: async () => machine.data,
    connectRuntime: madeUpRuntime().connect,
  })
  await test.start()
  await poll(() => test.phase).toBe('connected')
  return test
}

const foundOrder = (operationId: string): Directive['message'] => ({
  case: 'clusterOrder',
  value: {
    operationId,
    cluster: 'home',
    expires: timestampFromMs(Date.now() + 600_000),
    action: { case: 'found', value: {} },
  },
})

const startHub = async () =>
  await Hub.start(keys, made => {
    made.trust = create(TrustChainSchema, { envelopes: [sampleTrust.envelope] })
  })

describe('clusters over a session', () => {
  it('founds as a signed revision says, and repeats what came of it over restarts until it is acknowledged', async () => {
    await using hub = await startHub()
    const machine = new MadeUpMachine(MADE_UP_FACTS)
    await using test = await connected(hub, machine)
    const order = foundOrder('o1')
    const created = new Date(Date.now() - 60_000)
    const envelope = revisionOf({ machines: { n1: test.agent?.machine ?? '' }, created })
    hub.newest?.send({ case: 'revision', value: { number: 5n, envelope } })
    hub.newest?.send(order)
    hub.newest?.send(order)
    await poll(() => hub.newest?.of('clusterReport').length).toBeGreaterThan(0)
    const first = hub.newest?.of('clusterReport')[0]?.value
    expect(first).toMatchObject({
      operationId: 'o1',
      result: { case: 'ended', value: { done: true, authority: machine.authority } },
    })

    await test.stop()
    await test.start()
    await poll(() => hub.sessions.length).toBe(2)
    await poll(() => hub.newest?.of('clusterReport').length).toBe(1)
    expect(hub.newest?.of('clusterReport')[0]?.value).toEqual(first)
    const reportDigest = sha256Hex(toBinary(ClusterReportSchema, first ?? create(ClusterReportSchema)))
    hub.newest?.send({ case: 'clusterReportAck', value: { operationId: 'o1', reportDigest } })
    // Answered after it, and so a sign that it was read.
    hub.newest?.send({ case: 'clusterStateRequest', value: { requestId: 'q1' } })
    await poll(() => hub.newest?.of('clusterState').length).toBe(1)
    expect(hub.newest?.of('clusterState')[0]?.value).toMatchObject({
      requestId: 'q1',
      cluster: 'home',
      version: '1.34.3',
      data: { case: 'present', value: { authority: machine.authority, server: true } },
    })

    await test.stop()
    await test.start()
    await poll(() => hub.sessions.length).toBe(3)
    hub.newest?.send({ case: 'clusterStateRequest', value: { requestId: 'q2' } })
    await poll(() => hub.newest?.of('clusterState').length).toBe(1)
    expect(hub.newest?.of('clusterReport')).toEqual([])
    // Who asks again has lost it.
    hub.newest?.send(order)
    await poll(() => hub.newest?.of('clusterReport').length).toBe(1)
    expect(machine.did.filter(each => each.startsWith('found'))).toEqual(['found o1'])

    using local = createClient(LocalService, `unix:${test.socket}`, credentials.createInsecure())
    expect((await local.getStatus({})).cluster).toMatchObject({
      cluster: 'home',
      role: 'server',
      data: 'member',
      authority: machine.authority,
      operations: [{ operationId: 'o1', action: 'found', state: 'done' }],
    })
    expect(await statusText(test.socket, false)).toContain('home, components server: member, runs 1.34.3')
  })

  it('believes no revision that nobody signed, and obeys nothing by it', async () => {
    await using hub = await startHub()
    const machine = new MadeUpMachine(MADE_UP_FACTS)
    await using test = await connected(hub, machine)
    const envelope = revisionOf({ machines: { n1: test.agent?.machine ?? '' }, created: new Date() })
    envelope.payload = Uint8Array.from(envelope.payload, (byte, at) => (at === 90 ? byte ^ 1 : byte))
    hub.newest?.send({ case: 'revision', value: { number: 5n, envelope } })
    hub.newest?.send(foundOrder('o1'))
    await poll(() => hub.newest?.of('clusterReport').length).toBe(1)
    expect(hub.newest?.of('clusterReport')[0]?.value.result).toMatchObject({
      case: 'ended',
      value: { done: false, class: 'manifest' },
    })
    expect(machine.did).toEqual([])
  })

  it('answers a question for the Jobs of the signed revision, and for those of no other', async () => {
    await using hub = await startHub()
    const machine = new MadeUpMachine(MADE_UP_FACTS)
    machine.belongs()
    await using test = await connected(hub, machine)
    const created = new Date(Date.now() - 60_000)
    const envelope = revisionOf({ machines: { n1: test.agent?.machine ?? '' }, created })
    hub.newest?.send({ case: 'revision', value: { number: 5n, envelope } })
    const ask = (probeId: string, manifestDigest: string) => {
      const parameters = JSON.stringify({ cluster: 'home', revision: '5', manifestDigest })
      hub.newest?.send({ case: 'probe', value: { probeId, kind: 'jobs', parameters } })
    }
    const answer = (probeId: string) =>
      hub.newest?.of('probeAnswer').find(({ value }) => value.probeId === probeId)?.value
    ask('p1', sha256Hex(envelope.payload))
    await poll(() => answer('p1')).toMatchObject({ json: '{}', error: '' })
    ask('p2', 'f'.repeat(64))
    await poll(() => answer('p2')).toMatchObject({
      json: '',
      error: expect.stringContaining('no signed manifest to judge by'),
    })
  })
})
