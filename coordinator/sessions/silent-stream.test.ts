import { expect, it } from 'vitest'
import type { SessionRequest } from '../../shared/gen/muster/v1/agent_pb.ts'
import { createLogger } from '../../shared/log.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import { SessionRegistry } from './registry.ts'

const unused = () => {
  throw new Error('a stream without a hello asks nothing of anybody')
}

it('a stream on which no hello comes is ended, as no heartbeat would end it', async () => {
  const hooks = {
    admit: unused,
    allowed: unused,
    facts: unused,
    report: unused,
    log: unused,
    event: unused,
    trust: unused,
    orders: unused,
    open: unused,
    tellAll: unused,
    delivered: unused,
    assignment: unused,
    clone: unused,
    lastSeen: unused,
    auditHead: unused,
    trustNotice: unused,
    status: unused,
    clusters: { began: unused, report: unused, state: unused },
  }
  const registry = new SessionRegistry({
    hooks,
    heartbeatMs: 60_000,
    challengeMs: 300,
    helloMs: 30,
    clock: { now: () => new Date() },
    log: createLogger('silent'),
    signal: new AbortController().signal,
  })
  const silent = new Outbox<SessionRequest>(1)
  const stream = registry.serve('m1', silent, { address: '127.0.0.1' })
  await expect(stream[Symbol.asyncIterator]().next()).rejects.toThrow('no hello came within 30 ms')
  expect(registry.count()).toBe(0)
})
