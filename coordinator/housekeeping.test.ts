import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../shared/gen/muster/v1/operation_pb.ts'
import { parseConfig } from './config.ts'
import { housekeeping } from './housekeeping.ts'
import { MachineDirectory } from './machines/directory.ts'
import { ChangeFeed } from './operations/change-feed.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from './revisions/testing/sample-fleet.ts'
import { listEventRows, recordEvent } from './store/events.ts'
import { findOperation, insertOperations } from './store/operations.ts'
import { insertToken } from './store/tokens.ts'

const DAY_MS = 86_400_000
const ago = (days: number) => new Date(START.getTime() - days * DAY_MS)

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

async function makeChores(stateDir = fleet.folder) {
  const stop = new AbortController()
  const logged: string[] = []
  const disks: (string | undefined)[] = []
  const woken: string[] = []
  const operationFeed = new ChangeFeed()
  const deps = {
    ...fleet,
    operationFeed,
    directory: await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current()),
    log: pino({ level: 'error' }, { write: (line: string) => void logged.push(line) }),
    // The rounds are as far apart as half the life of an order: 30 ms.
    config: parseConfig({ stateDir, orderMinutes: 0.001, retention: { days: 10 } }, 'test'),
    sessions: { wake: (machine: string) => void woken.push(machine) },
    showAuditHead: async () => {},
    onDisk: (problem: string | undefined) => void disks.push(problem),
  }
  return { deps, stop, logged, disks, woken, operationFeed }
}

async function addOrder(id: string, machine: string, expires: Date, notBefore = 0): Promise<void> {
  await fleet.store.transact(tx =>
    insertOperations(tx, [
      {
        id,
        machine,
        host: '',
        revision: 1,
        manifest_digest: '',
        ordered: START.getTime(),
        ordered_by: 'anna',
        expires: expires.getTime(),
        delivered: null,
        phase: 0,
        outcome: null,
        outcome_class: 0,
        ended: null,
        not_before: notBefore,
      },
    ]),
  )
}

async function addToken(id: string, expires: Date): Promise<void> {
  const row = { id, secret_hash: '', expires: expires.getTime(), created: 0, created_by: 'anna' }
  await fleet.store.transact(tx =>
    insertToken(tx, { ...row, uses: 1, used: 0, host: '', labels: '{}', revoked: 0 }),
  )
}

describe('housekeeping', () => {
  it('ends orders that expired, forgets what is old enough, and leaves the rest alone', async () => {
    await addMachine(fleet.store, 'a'.repeat(64))
    await addMachine(fleet.store, 'b'.repeat(64), { state: 'pending', last_seen: ago(2).getTime() })
    await addOrder('op-old', 'a'.repeat(64), START)
    await addOrder('op-new', 'a'.repeat(64), new Date(START.getTime() + 1))
    await addToken('old', ago(11))
    await addToken('new', ago(9))
    await fleet.store.transact(async tx => {
      await recordEvent(tx, { at: ago(11), class: 'old', reason: '', actor: 'anna' })
      await recordEvent(tx, { at: ago(9), class: 'new', reason: '', actor: 'anna' })
    })
    const { deps, stop, logged } = await makeChores()
    using watch = deps.operationFeed.watch(['op-old', 'op-new'])
    const running = housekeeping(deps, stop.signal)
    expect([...(await watch.next(stop.signal))]).toEqual(['op-old'])
    const { store } = fleet
    const tokens = async () => (await store.db.selectFrom('tokens').select('id').execute()).map(row => row.id)
    await expect.poll(tokens).toEqual(['new'])
    stop.abort()
    await running
    expect((await findOperation(store.db, 'op-old'))?.outcome_class).toBe(OutcomeClass.REFUSED)
    expect((await findOperation(store.db, 'op-new'))?.outcome_class).toBe(0)
    const classes = (await listEventRows(store.db, { limit: 100 })).map(row => row.class)
    expect(classes).toContain('new')
    expect(classes).not.toContain('old')
    const machines = await store.db.selectFrom('machines').select('id').execute()
    expect(machines).toEqual([{ id: 'a'.repeat(64) }])
    expect(deps.directory.get('b'.repeat(64))).toBeUndefined()
    expect(logged).toEqual([])
  })

  it('comes back to orders again and again', async () => {
    const { deps, stop } = await makeChores()
    const running = housekeeping(deps, stop.signal)
    for (const id of ['op1', 'op2']) {
      using watch = deps.operationFeed.watch([id])
      await addOrder(id, 'a'.repeat(64), START)
      expect([...(await watch.next(stop.signal))]).toEqual([id])
    }
    stop.abort()
    await running
  })

  it('wakes the machines whose order was to wait until now, and no others', async () => {
    const later = new Date(START.getTime() + 3_600_000)
    await addOrder('due', 'a'.repeat(64), later, START.getTime())
    await addOrder('early', 'b'.repeat(64), later, START.getTime() + 1)
    await addOrder('at once', 'c'.repeat(64), later)
    const { deps, stop, woken } = await makeChores()
    const running = housekeeping(deps, stop.signal)
    await expect.poll(() => woken.length).toBeGreaterThan(1)
    stop.abort()
    await running
    expect(new Set(woken)).toEqual(new Set(['a'.repeat(64)]))
  })

  it('does its other chores when one cannot be done, and says which', async () => {
    await addOrder('op1', 'a'.repeat(64), START)
    const { deps, stop, logged, disks } = await makeChores(join(fleet.folder, 'gone'))
    using watch = deps.operationFeed.watch(['op1'])
    const running = housekeeping(deps, stop.signal)
    expect([...(await watch.next(stop.signal))]).toEqual(['op1'])
    await expect.poll(() => logged.length).toBeGreaterThan(1)
    expect(JSON.parse(logged[0] ?? '')).toMatchObject({ chore: 'disk' })
    expect(disks).toEqual([])
    stop.abort()
    await running
  })

  it('does nothing more once it is told to stop', async () => {
    const { deps, stop, disks } = await makeChores()
    stop.abort()
    await housekeeping(deps, stop.signal)
    expect(disks).toHaveLength(1)
  })
})
