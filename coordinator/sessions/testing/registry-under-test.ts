import { create, fromBinary } from '@bufbuild/protobuf'
import { pino } from 'pino'
import type { Clock } from '../../../shared/clock.ts'
import {
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  SessionResponseSchema,
} from '../../../shared/gen/muster/v1/agent_pb.ts'
import { openToMany } from '../../../shared/lifecycle.ts'
import { Encoded } from '../../../shared/rpc/definition.ts'
import { Outbox } from '../../../shared/rpc/outbox.ts'
import type { SessionHooks } from '../hooks.ts'
import { type SessionPeer, SessionRegistry } from '../registry.ts'

const stops: AbortController[] = []

/** Stops every registry that was made. */
export function stopRegistries(): void {
  for (const stop of stops.splice(0)) stop.abort()
}

interface Over {
  hooks?: Partial<SessionHooks>
  heartbeatMs?: number
  challengeMs?: number
  clock?: Clock
  restartExpectedMs?: number
}

/** A registry over hooks that take everything. */
export function makeRegistry({
  hooks,
  heartbeatMs = 60_000,
  challengeMs = 300,
  clock = { now: () => new Date() },
  restartExpectedMs = 1_000,
}: Over = {}) {
  const stop = openToMany()
  stops.push(stop)
  const clones: string[] = []
  const seen: string[] = []
  const banned = new Set<string>()
  const orders: { operationId: string; revision: bigint }[] = []
  const delivered: string[] = []
  const all: SessionHooks = {
    admit: async () => ({ kind: 'ok', needFacts: false, protocol: 1 }),
    allowed: machine => !banned.has(machine),
    facts: async () => ({ digest: 'd' }),
    report: async (_, report) => ({ operationId: report.operationId, sequence: 1n, outcome: false }),
    status: async () => {},
    log: async () => {},
    event: async () => {},
    trust: async () => {},
    orders: async () => orders,
    open: async () => orders.map(({ operationId }) => operationId),
    tellAll: async () => false,
    delivered: async (_, ids) => void delivered.push(...ids),
    assignment: async () => ({ host: 'olaf', group: '' }),
    clone: async machine => void clones.push(machine),
    lastSeen: async batch => void seen.push(...batch.keys()),
    auditHead: () => undefined,
    trustNotice: () => undefined,
    clusters: { began: () => {}, report: async () => {}, state: async () => {} },
    ...hooks,
  }
  const registry = new SessionRegistry({
    hooks: all,
    clock,
    log: pino({ level: 'silent' }),
    heartbeatMs,
    challengeMs,
    restartExpectedMs,
    signal: stop.signal,
  })
  return { registry, clones, seen, banned, orders, delivered, stop }
}

/** An agent's end of a session, without a network in between. */
export function connect(
  registry: SessionRegistry,
  machine: string,
  instance: string,
  {
    answers = true,
    bootId = '',
    ...peer
  }: { answers?: boolean; bootId?: string } & Partial<SessionPeer> = {},
) {
  const sent = new Outbox<SessionRequest>(1000)
  const received: SessionResponse['message'][] = []
  const say = (message: Parameters<typeof create<typeof SessionRequestSchema>>[1]) =>
    sent.push(create(SessionRequestSchema, message))
  say({ message: { case: 'hello', value: { instance, bootId, protocolMin: 1, protocolMax: 1 } } })
  const end: { error?: unknown; done: boolean } = { done: false }
  const stream = registry.serve(machine, sent, { address: '127.0.0.1', ...peer })
  const finished = (async () => {
    try {
      for await (const item of stream) {
        const { message } =
          item instanceof Encoded
            ? fromBinary(SessionResponseSchema, item.bytes)
            : create(SessionResponseSchema, item)
        received.push(message)
        if (message.case === 'challenge' && answers) say({ message: { case: 'heartbeat', value: {} } })
      }
    } catch (error) {
      end.error = error
    } finally {
      await stream.return?.()
    }
    end.done = true
  })()
  return {
    say,
    received,
    end,
    finished,
    leave: () => void stream.return?.(),
    cases: () => received.map(item => item.case),
  }
}
