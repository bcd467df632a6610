import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HelloSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import { ownHostBackup } from '../backup/own-host-backup.ts'
import { admitSession } from '../machines/admit-session.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { recordReport } from '../operations/record-report.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { listEventRows, newestLink, recordEvent } from '../store/events.ts'
import { findMachine } from '../store/machines.ts'
import { writeMeta } from '../store/meta.ts'
import { insertOperations } from '../store/operations.ts'
import { deleteOldOperations } from '../store/retention.ts'
import { openStore, type Store } from '../store/store.ts'
import { RESTORED_KEY, restoredMark } from './restore-watch.ts'
import { testEngine } from './testing/test-engine.ts'

const OLAF = 'a'.repeat(64)
const NAS = 'b'.repeat(64)
const HOUR_MS = 3_600_000

let fleet: SampleFleet
let stores: Store[]
beforeEach(async () => {
  fleet = await sampleFleet()
  stores = []
  await addMachine(fleet.store, OLAF)
  await addMachine(fleet.store, NAS)
})
afterEach(async () => {
  for (const store of stores) await store[Symbol.asyncDispose]()
  await fleet[Symbol.asyncDispose]()
})

/** A coordinator on a store, as far as it hears machines and grants. */
async function run(store: Store = fleet.store) {
  const directory = await MachineDirectory.load(store.db, fleet.fleetTargets.current())
  const deps = { ...fleet, store, directory, operationFeed: new ChangeFeed() }
  const own = { ownHost: () => undefined, ownHostBackup: ownHostBackup({ ...deps, stateDir: fleet.folder }) }
  return { ...deps, ...(await testEngine({ ...deps, ...own })) }
}
type Running = Awaited<ReturnType<typeof run>>

/** A copy of a store as it is now; a coordinator may be started on it later. */
async function copyOf({ store }: Pick<Running, 'store'>): Promise<() => Promise<Running>> {
  const path = join(fleet.folder, `${randomBytes(4).toString('hex')}.sqlite`)
  await store.copyTo(path)
  return async () => {
    const copy = await openStore(path, START)
    stores.push(copy)
    return await run(copy)
  }
}

async function greet(at: Running, machine: string, said: MessageInitShape<typeof HelloSchema> = {}) {
  const hello = create(HelloSchema, {
    version: '0.1.0',
    protocolMin: PROTOCOL_MIN,
    protocolMax: PROTOCOL_MAX,
    bootId: 'b1',
    bootCount: 1n,
    ...said,
  })
  expect((await admitSession(at, machine, hello, '10.0.0.9')).kind).toBe('ok')
}

const order = (at: Running, id: string, machine = OLAF) =>
  at.store.transact(tx =>
    insertOperations(tx, [
      {
        id,
        machine,
        host: 'olaf',
        revision: 0,
        manifest_digest: '',
        ordered: START.getTime(),
        ordered_by: 'anna',
        expires: START.getTime() + 3_600_000,
        delivered: null,
        ended: null,
        phase: 0,
        outcome: null,
        outcome_class: 0,
        action: 'reboot',
      },
    ]),
  )

const report = (at: Running, operationId: string, sequence: number, machine = OLAF) =>
  recordReport(
    at,
    machine,
    create(OperationReportSchema, {
      operationId,
      action: 'reboot',
      phases: [{ sequence: BigInt(sequence), phase: Phase.DONE, started: timestampFromDate(fleet.clock.at) }],
      outcome: { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE },
    }),
  )

const event = (at: Running) =>
  at.store.transact(tx =>
    recordEvent(tx, { at: START, class: 'approved', reason: randomBytes(4).toString('hex'), actor: 'anna' }),
  )

async function shownHead(at: Running) {
  const head = await newestLink(at.store.db)
  if (!head) throw new Error('no event')
  return { id: BigInt(head.id), hash: head.hash }
}

describe('a coordinator on an older copy of its store', () => {
  it('sees it in what was acknowledged since, over restarts, and once', async () => {
    const first = await run()
    await order(first, 'o1')
    await report(first, 'o1', 4)
    const older = await copyOf(first)
    await order(first, 'o2')
    const { sequence } = await report(first, 'o2', 9)
    expect(sequence).toBe(9n)
    await greet(first, OLAF, { acknowledged: 9n })
    expect(first.halted()).toBeUndefined()

    const second = await older()
    // Who did nothing since tells nothing.
    await greet(second, NAS)
    expect(second.halted()).toBeUndefined()
    expect(second.restoreWatch.haltedSinceMs()).toBeUndefined()
    const seenMs = fleet.clock.now().getTime()
    await greet(second, OLAF, { acknowledged: 9n })
    expect(second.halted()).toBe(
      'this store is older than what nodes report: aaaaaaaaaaaa has its journal acknowledged up to record 9, of which no more than 4 is known here; look, then `muster rollout accept`',
    )
    fleet.clock.at = new Date(fleet.clock.at.getTime() + HOUR_MS)
    await greet(second, OLAF, { acknowledged: 9n })
    await greet(second, NAS, { acknowledged: 2n })
    expect(second.restoreWatch.haltedSinceMs()).toBe(seenMs)
    const third = await run(second.store)
    expect(third.halted()).toBe(second.halted())
    expect(third.restoreWatch.haltedSinceMs()).toBe(seenMs)
    expect((await third.restoreWatch.accept('anna', 'looked', START)).length).toBe(2)
    expect(third.restoreWatch.haltedSinceMs()).toBeUndefined()
    await greet(third, OLAF, { acknowledged: 9n })
    expect(third.halted()).toBeUndefined()
    expect((await run(third.store)).halted()).toBeUndefined()
  })

  it('sees it in an operation that it does not know, told at the door or later, and names it once', async () => {
    const first = await run()
    const older = await copyOf(first)
    await order(first, 'o1')
    const untold = [{ operationId: 'o1', accepted: timestampFromDate(START) }]
    await greet(first, OLAF, { untold })
    expect(first.halted()).toBeUndefined()
    const second = await older()
    await greet(second, OLAF, { untold: [{ operationId: 'local-1', accepted: timestampFromDate(START) }] })
    expect(second.halted()).toBeUndefined()
    await greet(second, OLAF, { untold })
    expect(second.halted()).toContain('aaaaaaaaaaaa tells of operation o1, which is not on record; look')
    await report(second, 'o1', 3)
    await expect.poll(() => second.restoreWatch.accept('anna', 'looked', START)).toHaveLength(1)
  })

  it('sees it in the record of events, and knows later which links an operator accepted as lost', async () => {
    const first = await run()
    await event(first)
    const older = await copyOf(first)
    const kept = await shownHead(first)
    await event(first)
    const early = await shownHead(first)
    for (let more = 0; more < 5; more++) await event(first)
    const late = await shownHead(first)
    await greet(first, OLAF, { auditHead: late })

    const second = await older()
    await greet(second, OLAF, { auditHead: kept })
    expect(second.halted()).toBeUndefined()
    await greet(second, OLAF, { auditHead: late })
    expect(second.halted()).toContain(
      `was shown event ${late.id} of the record of events, the newest here is`,
    )
    await second.restoreWatch.accept('anna', 'looked', START)
    // Another machine that was away until now, with a link of what was accepted as lost; over a restart, too.
    await greet(second, NAS, { auditHead: early })
    await greet(second, OLAF, { auditHead: late })
    const third = await run(second.store)
    await greet(third, NAS, { auditHead: early })
    expect(third.halted()).toBeUndefined()
    const { id } = await shownHead(third)
    expect(id).toBe(late.id + 1n)
    // What is lost after that is another matter.
    const again = await copyOf(third)
    await event(third)
    const newer = await shownHead(third)
    const fourth = await again()
    await event(fourth)
    await greet(fourth, OLAF, { auditHead: newer })
    expect(fourth.halted()).toContain(`was shown another event ${newer.id} of the record of events`)
  })

  it('follows no made-up link so far that its record could not go on', async () => {
    const at = await run()
    await event(at)
    const auditHead = { id: BigInt(Number.MAX_SAFE_INTEGER), hash: 'f'.repeat(64) }
    await greet(at, OLAF, { auditHead })
    expect(at.halted()).toContain('was shown event')
    await at.restoreWatch.accept('anna', 'looked', START)
    expect(Number((await shownHead(at)).id)).toBeLessThan(10)
  })

  it('tells nothing of operations that were deleted for their age, nor of machines of which nobody kept how far they were', async () => {
    const at = await run()
    await order(at, 'o1')
    await report(at, 'o1', 3)
    await order(at, 'o2')
    await at.store.db
      .updateTable('operations')
      .set({ ordered: START.getTime() + 1 })
      .where('id', '=', 'o2')
      .execute()
    const beforeMs = START.getTime() + 1_000
    expect(await at.store.transact(tx => deleteOldOperations(tx, { beforeMs, limit: 9 }))).toBe(1)
    await greet(at, OLAF, {
      acknowledged: 3n,
      untold: [{ operationId: 'o1', accepted: timestampFromDate(START) }],
    })
    await report(at, 'o1', 3)
    await at.store.db.updateTable('machines').set({ acknowledged: null }).where('id', '=', NAS).execute()
    await greet(at, NAS, { acknowledged: 7n })
    expect(at.halted()).toBeUndefined()
    expect((await findMachine(at.store.db, NAS))?.acknowledged).toBe(7)
    await greet(at, NAS, { acknowledged: 8n })
    expect(at.halted()).toContain('up to record 8')
  })
})

describe('a coordinator on a backup that was put in place', () => {
  it('grants nothing until an operator has looked, and says so once in the events', async () => {
    const made = '2027-02-28T12:00:00.000Z'
    await fleet.store.transact(tx => writeMeta(tx, RESTORED_KEY, restoredMark(made)))
    const at = await run()
    expect(at.halted()).toBe(
      `this store was restored from the backup of ${made}, and what was done since is not in it; look, then \`muster rollout accept\``,
    )
    const sinceMs = fleet.clock.now().getTime()
    fleet.clock.at = new Date(fleet.clock.at.getTime() + HOUR_MS)
    const again = await run()
    await greet(again, OLAF, { acknowledged: 9n })
    expect(again.restoreWatch.haltedSinceMs()).toBe(sinceMs)
    expect(again.halted()).toMatch(
      /restored from the backup of .*, and it is older than what nodes report: a+ has/,
    )
    const events = await listEventRows(fleet.store.db, { limit: 100 })
    expect(events.filter(({ class: kind }) => kind === 'store-restored')).toHaveLength(1)
    expect(await again.restoreWatch.accept('anna', 'looked', START)).toEqual([
      `this store is the backup of ${made}`,
      expect.stringContaining('up to record 9'),
    ])
    expect(again.halted()).toBeUndefined()
    expect((await run()).halted()).toBeUndefined()
  })
})
