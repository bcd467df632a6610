import { create, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { OutcomeSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { listEventRows, recordEvent } from '../store/events.ts'
import { factsHistory, insertFacts } from '../store/facts.ts'
import { putLogChunk } from '../store/logs.ts'
import { insertOperations } from '../store/operations.ts'
import { insertRequest } from '../store/requests.ts'
import { diskProblem, judgeDisk } from './disk-space.ts'
import { trim } from './trim.ts'
import { type RetentionPolicy, whatToDelete } from './what-to-delete.ts'

const DAY_MS = 86_400_000
const NOW = START.getTime()
const never = new AbortController().signal
const policy: RetentionPolicy = { maxAgeMs: 10 * DAY_MS, logBytes: 500, events: 50, operations: 1000 }

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

const run = (change: Partial<RetentionPolicy> = {}) =>
  trim({ ...fleet, log: pino({ level: 'silent' }), policy: { ...policy, ...change } }, never)
const ago = (days: number) => new Date(NOW - days * DAY_MS)

async function addOperation(
  id: string,
  machine: string,
  days: number,
  ended: boolean,
  action?: string,
): Promise<void> {
  await fleet.store.transact(async tx => {
    await insertOperations(tx, [
      {
        id,
        machine,
        host: '',
        revision: 1,
        manifest_digest: '',
        ...(action !== undefined && { action }),
        ordered: ago(days).getTime(),
        ordered_by: 'anna',
        expires: 0,
        delivered: null,
        phase: 0,
        outcome: ended ? toBinary(OutcomeSchema, create(OutcomeSchema)) : null,
        outcome_class: ended ? 1 : 0,
        ended: ended ? ago(days).getTime() : null,
      },
    ])
    await putLogChunk(tx, id, { first: 0, lines: ['x'.repeat(96)], dropped: 0 }, ago(days))
  })
}
const operations = async () =>
  (await fleet.store.db.selectFrom('operations').select('id').orderBy('id').execute()).map(row => row.id)
const logs = async () =>
  (await fleet.store.db.selectFrom('log_chunks').select('operation').orderBy('operation').execute()).map(
    row => row.operation,
  )

describe('retention', () => {
  it('takes the oldest first, until all is within its bounds, and never what still runs', () => {
    const log = fc.record({
      operation: fc.uuid(),
      bytes: fc.nat(300),
      atMs: fc.integer({ min: NOW - 20 * DAY_MS, max: NOW }),
      ended: fc.boolean(),
    })
    const counts = fc.record({
      events: fc.option(
        fc.tuple(fc.integer({ min: 1, max: 500 }), fc.nat(500)).map(([oldest, more]) => ({
          oldest,
          newest: oldest + more,
        })),
        { nil: undefined },
      ),
      operations: fc.nat(3000),
      logs: fc.uniqueArray(log, { maxLength: 12, selector: one => one.operation }),
    })
    fc.assert(
      fc.property(counts, all => {
        const deletions = whatToDelete(policy, all, START)
        const kept = all.logs.filter(one => !deletions.logs.includes(one.operation))
        const gone = all.logs.filter(one => deletions.logs.includes(one.operation))
        expect(gone.every(one => one.ended)).toBe(true)
        const keptEnded = kept.filter(one => one.ended)
        expect(keptEnded.every(one => one.atMs >= deletions.beforeMs)).toBe(true)
        const bytes = kept.reduce((sum, one) => sum + one.bytes, 0)
        if (keptEnded.length > 0) expect(bytes).toBeLessThanOrEqual(policy.logBytes)
        const newestGone = Math.max(0, ...gone.map(one => one.atMs))
        expect(keptEnded.every(one => one.atMs >= newestGone)).toBe(true)
        const young = gone.filter(one => one.atMs >= deletions.beforeMs)
        if (young.length > 0) {
          // Nothing more than needed: with the last one still there it would be too much.
          const last = young
            .toSorted((a, b) => a.atMs - b.atMs || (a.operation < b.operation ? -1 : 1))
            .at(-1)
          expect(bytes + (last?.bytes ?? 0)).toBeGreaterThan(policy.logBytes)
        }
        if (all.events && all.events.newest - all.events.oldest >= policy.events) {
          expect(all.events.newest - deletions.eventsUpTo).toBe(policy.events)
        } else expect(deletions.eventsUpTo).toBe(0)
        expect(all.operations - deletions.operations).toBeLessThanOrEqual(policy.operations)
      }),
    )
  })

  it('deletes ended operations that are too old, with output and phases, but never the newest of a machine', async () => {
    await addOperation('old', 'm1', 30, true)
    await addOperation('newest', 'm1', 20, true)
    await addOperation('stuck', 'm2', 40, false)
    await addOperation('after', 'm2', 1, true)
    await run()
    expect(await operations()).toEqual(['after', 'newest', 'stuck'])
    expect(await logs()).toEqual(['after', 'stuck'])
    expect(await run()).toBe(0)
  })

  it('keeps the newest operation by which a machine got to a system, behind plans however new', async () => {
    await addOperation('older', 'm1', 50, true, 'apply')
    await addOperation('reached', 'm1', 40, true, 'rollback')
    await addOperation('rebooted', 'm1', 35, true, 'reboot')
    await addOperation('plan', 'm1', 1, true, 'plan')
    await run()
    expect(await operations()).toEqual(['plan', 'reached'])
  })

  it('T60: keeps output, events and operations within their bounds however much comes', async () => {
    for (let number = 0; number < 12; number++) {
      await addOperation(`op-${String(number).padStart(2, '0')}`, 'm1', 9 - number / 2, number !== 3)
    }
    await fleet.store.transact(async tx => {
      for (let number = 0; number < 1200; number++) {
        await recordEvent(tx, { at: START, class: 'refused', reason: `${number}`, actor: 'stranger' })
      }
    })
    await run({ operations: 8 })
    const events = await listEventRows(fleet.store.db, { limit: 5000 })
    expect(events.map(event => event.reason)).toEqual(Array.from({ length: 50 }, (_, at) => `${1199 - at}`))
    expect(await logs()).toEqual(['op-03', 'op-08', 'op-09', 'op-10', 'op-11'])
    expect(await operations()).toEqual([
      'op-03',
      'op-05',
      'op-06',
      'op-07',
      'op-08',
      'op-09',
      'op-10',
      'op-11',
    ])
  })

  it('deletes old requests, events and facts, but the newest facts of a machine stay for ever', async () => {
    await fleet.store.transact(async tx => {
      for (const days of [40, 30, 5]) {
        await insertFacts(tx, {
          machine: 'm1',
          digest: `${days}`,
          at: ago(days).getTime(),
          facts: Buffer.from('x'),
        })
        await insertRequest(tx, `request-${days}`, { intent: '', operations: [] }, ago(days))
        await recordEvent(tx, { at: ago(days), class: 'x', reason: `${days}`, actor: 'local' })
      }
      await insertFacts(tx, { machine: 'm2', digest: 'only', at: ago(99).getTime(), facts: Buffer.from('x') })
    })
    await run()
    const digests = async (machine: string) =>
      (await factsHistory(fleet.store.db, machine, 9)).map(row => row.digest)
    expect(await digests('m1')).toEqual(['5'])
    expect(await digests('m2')).toEqual(['only'])
    const requests = await fleet.store.db.selectFrom('requests').select('id').execute()
    expect(requests).toEqual([{ id: 'request-5' }])
    expect((await listEventRows(fleet.store.db, { limit: 9 })).map(event => event.reason)).toEqual(['5'])
  })

  it('T60: tells of a disk that is four fifths full, before it is', async () => {
    expect(judgeDisk('/state', { totalBytes: 100e9, freeBytes: 25e9 })).toBeUndefined()
    expect(judgeDisk('/state', { totalBytes: 100e9, freeBytes: 15e9 })).toMatch(
      /85 % full, 15000 MB are free/,
    )
    expect(judgeDisk('/state', { totalBytes: 0, freeBytes: 0 })).toMatch(/cannot be told/)
    const found = await diskProblem(fleet.folder)
    expect(found === undefined || found.includes(fleet.folder)).toBe(true)
  })
})
