import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openStore } from '../store/store.ts'
import { absorbReport } from './absorb-report.ts'
import { type ClusterRecord, emptyRecord } from './cluster-record.ts'
import type { NodeData, Observation } from './cluster-snapshot.ts'
import { askToLeave, letReturn } from './operator-changes.ts'
import { loadObservations, loadRecord, saveObservation, saveRecord } from './record-store.ts'
import { setBack } from './set-back.ts'
import { applyStep, type Step } from './steps.ts'
import { AUTHORITY, NOW } from './testing/sample-snapshot.ts'

let folder: string
let count = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-clusters-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))
const open = () => openStore(join(folder, `${count++}.sqlite`), new Date(NOW))

const machine = fc.constantFrom('m-a', 'm-b', 'm-c', 'm-d')
const why = fc.constant('')
/** Whatever a record can come through: steps, reports of them and operators' words, in any order. */
const changes: fc.Arbitrary<(record: ClusterRecord, now: number) => ClusterRecord> = fc.oneof(
  fc
    .oneof(
      fc.record({ kind: fc.constant('found' as const), machine, host: machine, why }),
      fc.record({ kind: fc.constant('clear' as const), machine, host: machine, server: machine, why }),
      fc.record({ kind: fc.constant('move-first' as const), machine, why }),
    )
    .map((step: Step) => (record: ClusterRecord, now: number) => applyStep(record, step, now)),
  fc
    .record({ machine, minter: machine, role: fc.constantFrom('server' as const, 'worker' as const) })
    .map(({ machine: joiner, minter, role }) => (record: ClusterRecord, now: number) => {
      // A machine joins once at a time, as the planner sees to and the store demands.
      if (record.joins.some(each => each.machine === joiner)) return record
      return applyStep(record, { kind: 'mint', machine: joiner, host: joiner, role, minter, why: '' }, now)
    }),
  fc
    .constantFrom('joined', 'failed', 'expired', 'withdrawn')
    .map(end => (record: ClusterRecord, now: number) => {
      const operation = record.joins[0]?.operation ?? ''
      return applyStep(record, { kind: 'end-join', operation, end, why: '' }, now)
    }),
  machine.map(only => (record: ClusterRecord, now: number) => {
    const operation = `act-${record.count}`
    return setBack(record, { machine: only, host: only, operation }, AUTHORITY, now)
  }),
  fc.constantFrom('delete-token', 'forget-join').map(kind => (record: ClusterRecord, now: number) => {
    const operation = record.joins.find(each => each.end !== undefined)?.operation ?? ''
    return applyStep(record, { kind, operation, server: 'm-a', why: '' }, now)
  }),
  fc
    .constantFrom<Parameters<typeof absorbReport>[3]>(
      { kind: 'minted', tokenId: 't' },
      { kind: 'received' },
      { kind: 'deleted' },
      { kind: 'ended', done: true, authority: AUTHORITY },
      { kind: 'ended', done: false, authority: '' },
    )
    .map(report => (record: ClusterRecord, now: number) => {
      const { joins, founding, leaves, clears } = record
      let next = record
      const said: [string, string][] = [
        ...joins.flatMap((j): [string, string][] => [
          [j.minter, j.operation],
          [j.machine, j.operation],
        ]),
        ...leaves.flatMap((l): [string, string][] =>
          l.attempt ? [[l.attempt.executor, l.attempt.operation]] : [],
        ),
        ...clears.map((c): [string, string] => [c.server, c.operation]),
        [founding?.machine ?? '', founding?.operation ?? ''],
      ]
      for (const [from, operation] of said) next = absorbReport(next, from, operation, report, now).record
      return next
    }),
  fc
    .record({ machine, dead: fc.boolean() })
    .map(({ machine: leaver, dead }) => (record: ClusterRecord, now: number) => {
      const asked = askToLeave(
        record,
        {
          host: leaver,
          machine: leaver,
          server: true,
          dead,
          signed: dead ? { envelope: new Uint8Array([1, 2]), untilMs: now } : undefined,
        },
        `${now}-${leaver}`,
      )
      const waiting = asked.leaves.find(({ attempt }) => attempt === undefined)
      return waiting && dead
        ? applyStep(asked, { kind: 'leave', request: waiting.request, executor: 'm-a', why: '' }, now)
        : asked
    }),
  machine.map(host => (record: ClusterRecord) => letReturn(record, host, `m-${host}`)),
)

describe('the record of a cluster in the store', () => {
  it('comes back as it was written, whatever it came through and wherever the coordinator was started anew', async () => {
    await using store = await open()
    let cluster = 0
    await fc.assert(
      fc.asyncProperty(fc.array(changes, { minLength: 1, maxLength: 25 }), async all => {
        cluster += 1
        let now = NOW + cluster
        let stored = await loadRecord(store.db, `c${cluster}`)
        expect(stored).toEqual({ record: emptyRecord(`c${cluster}`), generation: 0 })
        for (const change of all) {
          now += 1000
          const after = change(stored.record, now)
          expect(await store.transact(tx => saveRecord(tx, stored, after))).toBe(true)
          const generation = after === stored.record ? stored.generation : stored.generation + 1
          stored = await loadRecord(store.db, `c${cluster}`)
          const byName = [...after.joins].sort((a, b) => (a.operation < b.operation ? -1 : 1))
          expect(stored).toEqual({ generation, record: { ...after, joins: byName } })
        }
      }),
      { numRuns: 40 },
    )
  })

  it('T50: is written once of two that decided at the same time', async () => {
    await using store = await open()
    const first = await loadRecord(store.db, 'home')
    const found = (machine: string) =>
      applyStep(first.record, { kind: 'found', machine, host: 'a', why: '' }, NOW)
    expect(await store.transact(tx => saveRecord(tx, first, found('m-a')))).toBe(true)
    expect(await store.transact(tx => saveRecord(tx, first, found('m-b')))).toBe(false)
    const second = await loadRecord(store.db, 'home')
    expect(second.record.founding?.machine).toBe('m-a')
    const joined = applyStep(
      second.record,
      { kind: 'mint', machine: 'm-b', host: 'b', role: 'server', minter: 'm-a', why: '' },
      NOW,
    )
    expect(await store.transact(tx => saveRecord(tx, second, joined))).toBe(true)
    expect(await store.transact(tx => saveRecord(tx, second, second.record))).toBe(true)
    expect(await store.transact(tx => saveRecord(tx, second, joined))).toBe(false)
  })

  it('refuses a second join of one machine', async () => {
    await using store = await open()
    const empty = await loadRecord(store.db, 'home')
    const mint = { kind: 'mint', machine: 'm-b', host: 'b', role: 'worker', minter: 'm-a', why: '' } as const
    const twice = applyStep(applyStep(empty.record, mint, NOW), mint, NOW)
    await expect(store.transact(tx => saveRecord(tx, empty, twice))).rejects.toThrow('UNIQUE')
    expect((await loadRecord(store.db, 'home')).generation).toBe(0)
  })
})

describe('what machines said they have', () => {
  const seen = (asOfMs: number, data: NodeData): Observation => ({
    asOfMs,
    part: 'home',
    data,
    version: '1.34.3',
    view: undefined,
  })

  it('is kept without what servers see, and an older answer does not replace a newer one', async () => {
    await using store = await open()
    const all: readonly NodeData[] = [
      { kind: 'none' },
      { kind: 'cluster', authority: AUTHORITY, distribution: 'k3s', server: true },
      { kind: 'unfinished', operation: 'op' },
      { kind: 'unreadable', reason: 'EIO' },
    ]
    for (const [at, data] of all.entries()) {
      await store.transact(tx => saveObservation(tx, `m${at}`, seen(NOW, data)))
      await store.transact(tx => saveObservation(tx, `m${at}`, seen(NOW - 1, { kind: 'none' })))
    }
    const found = await loadObservations(store.db, ['m0', 'm1', 'm2', 'm3', 'm-unknown'])
    expect([...found]).toEqual(all.map((data, at) => [`m${at}`, seen(NOW, data)]))
    await store.transact(tx => saveObservation(tx, 'm1', seen(NOW + 1, { kind: 'none' })))
    expect((await loadObservations(store.db, ['m1'])).get('m1')?.data).toEqual({ kind: 'none' })
  })
})
