import { connect } from 'node:net'
import { join } from 'node:path'
import { credentials } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { Health } from '../../../shared/gen/grpc/health/v1/health_pb.ts'
import { LocalService } from '../../../shared/gen/muster/v1/local_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { createClient } from '../../../shared/rpc/client.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../../shared/version.ts'
import { startFleet } from '../../support/fleet.ts'
import { addOperator } from '../../support/operator.ts'
import { programFile, runProgram } from '../../support/program.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import {
  events,
  idOf,
  makeToken,
  shownMachine,
  until,
  untilActive,
  untilConsole,
  untilMachine,
} from '../../support/shown.ts'

const APPLY_NEWEST = { case: 'apply' as const, value: {} }

describe('starting and stopping', () => {
  it('N20: an agent waits for a coordinator that is away or still starts, and then comes in by itself', async () => {
    await using fleet = await startFleet()
    const token = await makeToken(fleet)
    await fleet.coordinator?.kill('SIGTERM')
    const agent = await fleet.addAgent('waits', { token })
    await untilConsole(agent, /the coordinator cannot be reached; trying again/)
    using local = createClient(LocalService, `unix:${agent.socket}`, credentials.createInsecure())
    expect(await local.getStatus({})).toMatchObject({ state: 'enrolling', machine: await idOf(agent) })
    await fleet.startCoordinator()
    await untilActive(fleet, agent)
    expect(agent.programs).toHaveLength(1)
    expect(await local.getStatus({})).toMatchObject({ state: 'connected' })

    // And again, with a session: both a stop and a kill of the coordinator.
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await fleet.coordinator?.kill(signal)
      await until('away', async () => ((await local.getStatus({})).state === 'connected' ? undefined : true))
      await fleet.startCoordinator()
      await untilActive(fleet, agent)
    }
    expect(agent.programs).toHaveLength(1)
    const all = await events(fleet, await idOf(agent))
    expect(all.filter(({ class: kind }) => kind === 'enrolled')).toHaveLength(1)
  })

  it('SIGTERM lets the coordinator finish: sessions are told, the exit is clean, nothing is left behind', async () => {
    await using fleet = await startFleet()
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    await using session = await raw.session()
    await session.untilReceived('welcome')
    session.beat()
    await session.untilReceived('heartbeatAck')
    const end = await fleet.coordinator?.kill('SIGTERM')
    expect(end).toMatchObject({ code: 0, signal: null })
    expect(await session.untilEnded()).toMatch(/the coordinator stops/)
    expect(fleet.coordinator?.log().at(-1)).toMatchObject({ msg: 'coordinator stopped' })
    await fleet.startCoordinator()
    // What was only in memory while it ran was written on the way out.
    const shown = await shownMachine(fleet, raw.id)
    expect(Number(shown?.lastSeen?.seconds ?? 0n)).toBeGreaterThan(Date.now() / 1000 - 60)
    expect(shown?.online).toBe(false)
  })

  it('a second coordinator on the same state, and a second agent, are refused and disturb nobody', async () => {
    await using fleet = await startFleet()
    const agent = await fleet.addAgent('only', { token: await makeToken(fleet) })
    await untilActive(fleet, agent)
    const second = await agent.start().finished
    expect(second.code).not.toBe(0)
    expect(`${second.stderr}${second.stdout}`).toMatch(/another|already|in use/i)
    agent.program = agent.programs[0]
    const first = fleet.coordinator
    const config = join(fleet.dir, 'coordinator.json')
    const other = await runProgram(process.execPath, [programFile('coordinator'), '--config', config])
    expect(other.code).not.toBe(0)
    expect(`${other.stderr}${other.stdout}`).toMatch(/another|already|in use/i)
    expect(first?.running).toBe(true)
    await untilActive(fleet, agent)
  })

  it('N21 N22: what a coordinator knew before it was killed it knows before it answers', async () => {
    await using fleet = await startFleet()
    await using operator = await addOperator(fleet)
    await operator.publish({ toml: '[hosts.olaf]\n' })
    const { digest } = await operator.publish({ toml: '[hosts.olaf]\n[hosts.nas]\n' })
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet, { host: 'nas' }) })
    await fleet.coordinator?.kill('SIGKILL')
    await fleet.startCoordinator()
    expect(await fleet.api.getFleet({})).toMatchObject({
      revision: 2n,
      manifestDigest: digest,
      trustPin: operator.trustPin,
      unboundHosts: ['olaf'],
    })
    expect((await shownMachine(fleet, 'nas'))?.id).toBe(raw.id)
  })
})

describe('versions of the protocol', () => {
  it('one newer or older beside ours is spoken with; one that shares none is refused, naming both', async () => {
    await using fleet = await startFleet()
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    for (const [protocolMin, protocolMax] of [
      [PROTOCOL_MIN, PROTOCOL_MAX + 1],
      [Math.max(0, PROTOCOL_MIN - 1), PROTOCOL_MAX],
    ]) {
      await using session = await raw.session({
        protocolMin: protocolMin!,
        protocolMax: protocolMax!,
        version: '9.9.9',
      })
      await session.untilReceived('welcome')
      const [welcome] = session.received
        .map(({ message }) => message)
        .filter(({ case: kind }) => kind === 'welcome')
      expect(welcome?.value).toMatchObject({ protocol: PROTOCOL_MAX })
      expect((await shownMachine(fleet, raw.id))?.agentVersion).toBe('9.9.9')
    }
    await using future = await raw.session({ protocolMin: PROTOCOL_MAX + 1, protocolMax: PROTOCOL_MAX + 2 })
    expect(await future.untilEnded()).toMatch(/protocol: this coordinator speaks 1 to 1, the machine 2 to 3/)
    using client = await raw.enrolmentClient()
    await expect(client.begin({ protocolMin: 2, protocolMax: 3 })).rejects.toThrow(/protocol/)
    expect((await client.begin({ protocolMin: 1, protocolMax: 2 })).protocol).toBe(1)
  })

  it('N24: messages and fields of a newer agent are passed over, not an end of the session', async () => {
    await using fleet = await startFleet()
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    await using session = await raw.session()
    await session.untilReceived('welcome')
    session.send({ message: { case: undefined } })
    session.beat()
    await session.untilReceived('heartbeatAck')
    expect(session.end).toBeUndefined()
  })
})

describe('who is online', () => {
  it('T54: online is what is connected now: a killed, a stopped and a frozen agent are each shown as gone', async () => {
    await using fleet = await startFleet()
    const agent = await fleet.addAgent('gone', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await agent.kill('SIGKILL')
    await untilMachine(fleet, id, 'offline after a kill', ({ online }) => !online)
    agent.start()
    await untilActive(fleet, agent)
    agent.program?.child.kill('SIGSTOP')
    await untilMachine(fleet, id, 'offline while frozen', ({ online }) => !online)
    agent.program?.child.kill('SIGCONT')
    await untilActive(fleet, agent)
    expect(agent.programs).toHaveLength(2)
    expect((await fleet.api.getFleet({})).online).toBe(1n)
  })

  it('a coordinator that is told to stop ends soon, although a frozen agent never says goodbye', async () => {
    await using fleet = await startFleet()
    const agent = await fleet.addAgent('frozen', { token: await makeToken(fleet) })
    await untilActive(fleet, agent)
    agent.program?.child.kill('SIGSTOP')
    const begun = Date.now()
    const { code } = (await fleet.coordinator?.kill('SIGTERM')) ?? {}
    expect(code).toBe(0)
    expect(Date.now() - begun).toBeLessThan(30_000)
  })

  it('T54: an order that does not reach its machine in time is withdrawn, not executed later', async () => {
    await using fleet = await startFleet({ orderMinutes: 0.02 })
    await using operator = await addOperator(fleet)
    await operator.publish({ toml: '[hosts.olaf]\n' })
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet, { host: 'olaf' }) })
    const before = await raw.session()
    await before.untilReceived('welcome')
    await before[Symbol.asyncDispose]()
    await untilMachine(fleet, raw.id, 'offline', ({ online }) => !online)
    const { operations } = await fleet.api.giveOrders({
      refs: ['olaf'],
      requestId: randomId(),
      action: APPLY_NEWEST,
    })
    const id = operations[0]?.operationId ?? ''
    await until('withdrawn', async () => {
      const { operations: now } = await fleet.api.listOperations({ operationIds: [id] })
      return now[0]?.outcome
    })
    await using after = await raw.session()
    await after.untilReceived('welcome')
    after.beat()
    await after.untilReceived('heartbeatAck')
    expect(after.kinds()).not.toContain('order')
  })

  it('T53: health is a round trip through store and sessions, and answers while strangers hold connections open', async () => {
    await using fleet = await startFleet()
    const idle = Array.from({ length: 50 }, () => connect(fleet.enrolmentPort, '127.0.0.1'))
    for (const socket of idle) socket.on('error', () => {})
    using health = createClient(Health, `unix:${fleet.socket}`, credentials.createInsecure())
    const { status } = await health.check({ service: '' }, { deadlineMs: 5_000 })
    expect(status).toBe(1)
    const raw = await RawMachine.make(fleet)
    expect((await raw.enrol({ token: await makeToken(fleet) })).case).toBe('certificate')
    for (const socket of idle) socket.destroy()
  })

  it('T58: a hundred beats and a reconnect that say nothing new leave no event and no facts behind', async () => {
    await using fleet = await startFleet()
    const agent = await fleet.addAgent('steady', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await untilMachine(fleet, id, 'facts there', ({ serial }) => serial !== '')
    const before = await fleet.api.getMachine({ ref: id, history: 20 })
    await agent.kill('SIGTERM')
    agent.start()
    await untilActive(fleet, agent)
    await using session = await (async () => {
      const raw = await RawMachine.make(fleet)
      await raw.enrol({ token: await makeToken(fleet) })
      const open = await raw.session()
      await open.untilReceived('welcome')
      return open
    })()
    const quiet = (await events(fleet)).length
    for (let i = 0; i < 100; i++) session.beat()
    await until('answers', () =>
      session.kinds().filter(kind => kind === 'heartbeatAck').length >= 60 ? true : undefined,
    )
    expect((await events(fleet)).length).toBe(quiet)
    const after = await fleet.api.getMachine({ ref: id, history: 20 })
    expect(after.history).toEqual(before.history)
    expect(after.events).toEqual(before.events)
  })
})
