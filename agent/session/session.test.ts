import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LogLinesSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { fleetAddresses } from './addresses.ts'
import { ClockSkew } from './clock-skew.ts'
import { parseMemoryAvailable } from './heartbeat.ts'
import { operationMessages } from './operation-messages.ts'
import { Sender } from './sender.ts'
import { afterSession, type SessionEnd } from './session-end.ts'

const end: fc.Arbitrary<SessionEnd> = fc.oneof(
  fc.constant<SessionEnd>({ kind: 'stopped' }),
  fc.constant<SessionEnd>({ kind: 'renewed' }),
  fc.constant<SessionEnd>({ kind: 'denied', reason: 'x' }),
  fc.boolean().map((welcomed): SessionEnd => ({ kind: 'lost', reason: 'x', welcomed })),
)

describe('afterSession', () => {
  it('goes on after every end but a stop, with a bounded pause unless there is a new certificate', () => {
    fc.assert(
      fc.property(
        end,
        fc.nat({ max: 1000 }),
        fc.integer({ min: 10, max: 100_000 }),
        (what, failures, mostMs) => {
          const step = afterSession(what, failures, { firstMs: 10, mostMs })
          expect(step.kind === 'stop').toBe(what.kind === 'stopped')
          expect(step.waitMs).toBeLessThanOrEqual(mostMs)
          expect(step.waitMs > 0).toBe(what.kind !== 'stopped' && what.kind !== 'renewed')
        },
      ),
    )
  })

  it('asks the enrolment listener when denied, and now and then when it never gets through', () => {
    const retry = { firstMs: 10, mostMs: 100 }
    expect(afterSession({ kind: 'denied', reason: 'evicted' }, 1, retry).kind).toBe('enrol')
    const lost = { kind: 'lost', reason: 'x', welcomed: false } as const
    const asked = Array.from(
      { length: 13 },
      (_, failures) => afterSession(lost, failures, retry).kind === 'enrol',
    )
    expect(asked.flatMap((yes, failures) => (yes ? [failures] : []))).toEqual([6, 12])
    expect(afterSession({ ...lost, welcomed: true }, 6, retry).kind).toBe('connect')
  })
})

describe('the sender', () => {
  it('sends nothing but what was pushed before it is opened, and marks as sent only what was taken', async () => {
    const sent: number[] = []
    let next = 0
    const sender = new Sender([
      {
        next: () => {
          const at = next
          if (at >= 3) return undefined
          next += 1
          return {
            message: { message: { case: 'log', value: { first: BigInt(at) } } },
            sent: () => sent.push(at),
          }
        },
      },
    ])
    sender.push({ message: { case: 'hello', value: {} } })
    const iterator = sender[Symbol.asyncIterator]()
    expect((await iterator.next()).value?.message?.case).toBe('hello')
    const waiting = iterator.next()
    expect(next).toBe(0)
    sender.open()
    expect((await waiting).value?.message?.case).toBe('log')
    expect(sent).toEqual([])
    await iterator.next()
    expect(sent).toEqual([0])
    sender.push({ message: { case: 'heartbeat', value: {} } })
    expect((await iterator.next()).value?.message?.case).toBe('heartbeat')
    sender.close()
    expect((await iterator.next()).done).toBe(true)
    expect(sender.push({})).toBe(false)
  })

  it('holds a bounded number of messages', () => {
    const sender = new Sender([])
    const pushed = Array.from({ length: 100 }, () => sender.push({}))
    expect(pushed.filter(Boolean)).toHaveLength(64)
  })
})

describe('what operations tell', () => {
  const report = (id: string, ended: boolean) =>
    create(OperationReportSchema, { operationId: id, ...(ended ? { outcome: { reason: 'x' } } : {}) })

  it('comes once for each change, with the outcome after the output', () => {
    const lines = [create(LogLinesSchema, { operationId: 'b', lines: ['one'] })]
    let reports = [report('a', false), report('b', true)]
    const source = operationMessages({
      reports: () => reports,
      logs: () => lines,
      logSent: () => {
        lines.shift()
      },
    })
    const take = () => {
      const next = source.next()
      next?.sent()
      const { message } = next?.message ?? {}
      return message?.case === 'operation' ? message.value.operationId : message?.case
    }
    expect([take(), take(), take(), take()]).toEqual(['a', 'log', 'b', undefined])
    reports = [report('a', true), report('b', true)]
    expect([take(), take()]).toEqual(['a', undefined])
    reports = []
    expect(take()).toBeUndefined()
    reports = [report('a', true)]
    expect(take()).toBe('a')
  })
})

it('reports a clock once when it goes wrong, and again only after it was right', () => {
  const clock = { ms: 0, now: () => new Date(clock.ms) }
  const skew = new ClockSkew(clock, () => 0)
  const observe = (seconds: number, nowMs: number) => {
    clock.ms = nowMs
    return skew.observe({ $typeName: 'google.protobuf.Timestamp', seconds: BigInt(seconds), nanos: 0 })
  }
  expect(observe(1000, 1_020_000)).toBeUndefined()
  expect(observe(1000, 1_040_000)).toContain('40 s ahead of')
  expect(observe(1000, 1_040_000)).toBeUndefined()
  expect(skew.observe(undefined)).toBeUndefined()
  expect(skew.ms).toBe(40_000)
  expect(observe(1000, 1_000_000)).toBeUndefined()
  expect(observe(1000, 900_000)).toContain('100 s behind')
})

it('sees that a clock was set before the coordinator speaks again', () => {
  let [nowMs, monotonicMs] = [400_000, 5]
  const skew = new ClockSkew({ now: () => new Date(nowMs) }, () => monotonicMs)
  expect(skew.ms).toBeUndefined()
  skew.observe({ $typeName: 'google.protobuf.Timestamp', seconds: 1000n, nanos: 0 })
  expect(skew.ms).toBe(-600_000)
  monotonicMs += 7_000
  nowMs += 7_000
  expect(skew.ms).toBe(-600_000)
  nowMs = 1_007_000
  expect(skew.ms).toBe(0)
})

it('tries the address it was told first, then those of the trust set, each once', () => {
  expect(fleetAddresses('a:1', ['b:2', 'a:1', 'c:3'])).toEqual(['a:1', 'b:2', 'c:3'])
  expect(fleetAddresses(undefined, [])).toEqual([])
})

it('reads MemAvailable, and says nothing when it is not there', () => {
  expect(parseMemoryAvailable('MemTotal:  9 kB\nMemAvailable:     12 kB\n')).toBe(12288n)
  expect(parseMemoryAvailable('MemTotal:  9 kB\n')).toBeUndefined()
})
