import { getEventListeners } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { create } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import {
  type SessionRequest,
  SessionRequestSchema,
  SessionResponseSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import { openToMany } from '../../shared/lifecycle.ts'
import { Encoded } from '../../shared/rpc/definition.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import { connect, makeRegistry, stopRegistries } from './testing/registry-under-test.ts'

afterEach(stopRegistries)

describe('the registry of sessions', () => {
  it('welcomes a machine with its host and what is not over, and says that it is online until it leaves', async () => {
    const { registry, orders } = makeRegistry()
    orders.push({ operationId: 'not-over', revision: 1n })
    const agent = connect(registry, 'm1', 'a')
    await expect
      .poll(() => agent.received[0])
      .toMatchObject({
        case: 'welcome',
        value: { assignment: { host: 'olaf' }, openOperations: ['not-over'] },
      })
    expect(registry.online('m1')).toBe(true)
    agent.leave()
    await expect.poll(() => registry.online('m1')).toBe(false)
  })

  it('tells which agent holds a session, and hands its reports and its status on with that', async () => {
    const heard: unknown[] = []
    const { registry } = makeRegistry({
      hooks: {
        report: async (_, report, instance) => {
          heard.push([report.operationId, instance])
          return { operationId: report.operationId, sequence: 1n, outcome: false }
        },
        status: async (_, { program }) => void heard.push(program),
      },
    })
    const agent = connect(registry, 'm1', 'a', { bootId: 'boot-7' })
    await expect
      .poll(() => registry.live('m1'))
      .toMatchObject({ instance: 'a', bootId: 'boot-7', disputed: false })
    agent.say({ message: { case: 'operation', value: { operationId: 'op' } } })
    agent.say({ message: { case: 'status', value: { program: '/nix/store/agent' } } })
    await expect.poll(() => heard).toEqual([['op', 'a'], '/nix/store/agent'])
    agent.leave()
    await expect.poll(() => registry.live('m1')).toBeUndefined()
  })

  it('N35: a planned stop is announced to every session before it ends, and waits for nobody', async () => {
    const { registry, stop } = makeRegistry({ restartExpectedMs: 45_000 })
    const running = registry.run()
    const agents = ['m1', 'm2'].map(machine => connect(registry, machine, 'a'))
    await expect.poll(() => registry.count()).toBe(2)
    // One that takes nothing any more: its stream is never asked for the next message.
    const deaf = new Outbox<SessionRequest>(10)
    deaf.push(create(SessionRequestSchema, { message: { case: 'hello', value: { instance: 'd' } } }))
    const stream = registry.serve('m3', deaf, { address: '' })
    await stream.next()
    expect(registry.count()).toBe(3)
    const began = performance.now()
    stop.abort()
    await running
    expect(performance.now() - began).toBeLessThan(3_000)
    for (const { received, end, finished } of agents) {
      await finished
      expect(received.at(-1)).toMatchObject({ case: 'restart', value: { expected: { seconds: 45n } } })
      expect(end.error).toMatchObject({ code: status.UNAVAILABLE })
    }
  })

  it('refuses a session that does not begin with hello', async () => {
    const { registry } = makeRegistry()
    const sent = new Outbox<SessionRequest>(10)
    sent.push(create(SessionRequestSchema, { message: { case: 'heartbeat', value: {} } }))
    const stream = registry.serve('m1', sent, { address: '' })
    await expect(stream.next()).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
  })

  it('does not wait for ever for a hello', async () => {
    const { registry } = makeRegistry({ heartbeatMs: 20 })
    const silent = new Outbox<SessionRequest>(10)
    const stream = registry.serve('m1', silent, { address: '' })
    await expect(stream.next()).rejects.toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      message: 'no hello within 60 ms',
    })
    expect(registry.count()).toBe(0)
  })

  it('T7: two machines that both answer with one key are a clone, and neither is acted on', async () => {
    const { registry, clones, orders, delivered } = makeRegistry()
    const first = connect(registry, 'm1', 'a')
    await expect.poll(() => registry.online('m1')).toBe(true)
    const second = connect(registry, 'm1', 'b')
    await expect.poll(() => clones).toEqual(['m1'])
    orders.push({ operationId: 'op1', revision: 1n })
    registry.wake('m1')
    await new Promise(resolve => setImmediate(resolve))
    expect(first.cases()).toContain('challenge')
    expect(second.cases()).toContain('challenge')
    expect(delivered).toEqual([])
    expect([first.end.done, second.end.done]).toEqual([false, false])
  })

  it('gives the place of a holder that no longer answers to the one that does, without an alarm', async () => {
    const { registry, clones, orders, delivered } = makeRegistry({ challengeMs: 150 })
    const dead = connect(registry, 'm1', 'a', { answers: false })
    await expect.poll(() => registry.online('m1')).toBe(true)
    orders.push({ operationId: 'op1', revision: 1n })
    const fresh = connect(registry, 'm1', 'b')
    await expect.poll(() => dead.end.error).toMatchObject({ code: status.ABORTED })
    await expect.poll(() => fresh.cases()).toContain('order')
    expect(delivered.filter(id => id === 'op1').length).toBeGreaterThan(0)
    expect(clones).toEqual([])
  })

  it('replaces a session by a newer one of the same agent at once', async () => {
    const { registry, clones } = makeRegistry()
    const old = connect(registry, 'm1', 'a')
    await expect.poll(() => registry.online('m1')).toBe(true)
    const fresh = connect(registry, 'm1', 'a')
    await expect.poll(() => old.end.error).toMatchObject({ code: status.ABORTED })
    await expect.poll(() => fresh.cases()).toContain('welcome')
    expect(registry.online('m1')).toBe(true)
    expect(clones).toEqual([])
  })

  it('T19: ends the session of a machine that is banned, at once and again at its next word', async () => {
    const { registry, banned } = makeRegistry()
    const agent = connect(registry, 'm1', 'a')
    await expect.poll(() => registry.online('m1')).toBe(true)
    banned.add('m1')
    agent.say({ message: { case: 'heartbeat', value: {} } })
    await expect.poll(() => agent.end.error).toMatchObject({ code: status.PERMISSION_DENIED })
    expect(agent.cases()).not.toContain('heartbeatAck')
    banned.clear()
    const other = connect(registry, 'm1', 'a')
    await expect.poll(() => registry.online('m1')).toBe(true)
    registry.end('m1', 'evicted')
    await expect
      .poll(() => other.end.error)
      .toMatchObject({ code: status.PERMISSION_DENIED, message: 'evicted' })
  })

  it('delivers an order once to a session, however often it is woken', async () => {
    const { registry, orders } = makeRegistry()
    const agent = connect(registry, 'm1', 'a')
    await expect.poll(() => agent.cases()).toContain('welcome')
    orders.push({ operationId: 'op1', revision: 1n })
    for (let round = 0; round < 20; round++) registry.wake('m1')
    await expect.poll(() => agent.cases().filter(kind => kind === 'order')).toHaveLength(1)
    registry.wake('m1')
    await new Promise(resolve => setTimeout(resolve, 20))
    expect(agent.cases().filter(kind => kind === 'order')).toHaveLength(1)
  })

  it('hands a large message to a few sessions at a time, and of two the later one to nobody first', async () => {
    const { registry } = makeRegistry()
    const agents = Array.from({ length: 9 }, (_, index) => connect(registry, `m${index}`, 'a'))
    await expect.poll(() => agents.filter(({ received }) => received.length === 1)).toHaveLength(9)
    const notice = (number: bigint, bytes: number) =>
      Encoded.of(SessionResponseSchema, {
        message: {
          case: 'revision',
          value: { number, envelope: { payload: new Uint8Array(bytes) } },
        },
      })
    const isTold = () => agents.map(({ received }) => received.length > 1)
    // The smaller one goes to more sessions in one turn, and would overtake.
    const both = [registry.broadcastInTurns(notice(1n, 600_000)), registry.broadcastInTurns(notice(2n, 10))]
    await nextTurn()
    expect(isTold()[0]).toBe(true)
    expect(isTold().at(-1)).toBe(false)
    await Promise.all(both)
    for (const { received } of agents) {
      await expect.poll(() => received.length).toBe(3)
      expect(received.slice(1)).toMatchObject([{ value: { number: 1n } }, { value: { number: 2n } }])
    }
  })

  it('T54: ends sessions that fell silent, so that nothing stays online that does not speak', async () => {
    const { registry, stop } = makeRegistry({ heartbeatMs: 20 })
    const running = registry.run()
    const agent = connect(registry, 'm1', 'a')
    await expect.poll(() => registry.online('m1')).toBe(true)
    await expect.poll(() => registry.online('m1'), { timeout: 5000 }).toBe(false)
    expect(agent.end.error).toMatchObject({ code: status.DEADLINE_EXCEEDED })
    stop.abort()
    await running
  })

  it('writes liveness in batches', async () => {
    const { registry, seen } = makeRegistry()
    const agents = ['m1', 'm2', 'm3'].map(machine => connect(registry, machine, 'a'))
    for (const agent of agents) {
      for (let beat = 0; beat < 10; beat++) agent.say({ message: { case: 'heartbeat', value: {} } })
    }
    await expect
      .poll(() => agents.every(a => a.cases().filter(c => c === 'heartbeatAck').length === 10))
      .toBe(true)
    expect(seen).toEqual([])
    await registry.flush()
    expect(seen.toSorted()).toEqual(['m1', 'm2', 'm3'])
    await registry.flush()
    expect(seen).toHaveLength(3)
  })

  it('asks a whole fleet under one signal, which keeps nobody who answered or was given up', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => void warnings.push(warning)
    process.on('warning', onWarning)
    const { registry } = makeRegistry()
    const machines = Array.from({ length: 40 }, (_, at) => `m${at}`)
    const agents = machines.map(machine => connect(registry, machine, 'a'))
    await expect.poll(() => registry.count()).toBe(40)
    const controller = openToMany()
    const { signal } = controller
    const answers = machines.map(machine => registry.probe(machine, 'facts', 60_000, signal))
    expect(getEventListeners(signal, 'abort')).toHaveLength(40)
    for (const agent of agents.slice(0, 20)) {
      await expect.poll(() => agent.cases()).toContain('probe')
      const asked = agent.received.find(item => item.case === 'probe')
      const probeId = asked?.case === 'probe' ? asked.value.probeId : ''
      agent.say({ message: { case: 'probeAnswer', value: { probeId, json: '{}' } } })
    }
    await Promise.all(answers.slice(0, 20))
    expect(getEventListeners(signal, 'abort')).toHaveLength(20)
    controller.abort()
    const rest = await Promise.allSettled(answers.slice(20))
    expect(new Set(rest.map(({ status }) => status))).toEqual(new Set(['rejected']))
    expect(getEventListeners(signal, 'abort')).toEqual([])
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })

  it('answers a probe with what the machine says, and with a reason when it does not', async () => {
    const { registry } = makeRegistry()
    await expect(registry.probe('m1', 'facts', 100)).rejects.toMatchObject({ code: status.UNAVAILABLE })
    const agent = connect(registry, 'm1', 'a')
    await expect.poll(() => registry.online('m1')).toBe(true)
    await expect(registry.probe('m1', 'facts', 50)).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED })
    const answer = registry.probe('m1', 'facts', 5000)
    const asked = () => agent.received.findLast(item => item.case === 'probe')
    await expect.poll(() => agent.cases().filter(kind => kind === 'probe')).toHaveLength(2)
    const last = asked()
    const probeId = last?.case === 'probe' ? last.value.probeId : ''
    // A node's own word that it found nothing out in time must arrive before the question is given up.
    expect(last).toMatchObject({ value: { deadline: { seconds: 4n, nanos: 0 } } })
    const stranger = connect(registry, 'm2', 'a')
    stranger.say({ message: { case: 'probeAnswer', value: { probeId, json: '"forged"' } } })
    await expect.poll(() => registry.online('m2')).toBe(true)
    agent.say({ message: { case: 'probeAnswer', value: { probeId, json: '{"cpu":1}' } } })
    await expect(answer).resolves.toBe('{"cpu":1}')
  })
})
