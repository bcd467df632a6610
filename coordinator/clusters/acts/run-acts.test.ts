import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { ChangeFeed } from '../../operations/change-feed.ts'
import { type SampleFleet, sampleFleet } from '../../revisions/testing/sample-fleet.ts'
import { loadRecord } from '../record-store.ts'
import { AUTHORITY, NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import { dropCordon, findAct, insertAct, listCordons, putCordon } from './act-store.ts'
import type { ClusterAct } from './cluster-act.ts'
import { Kubeconfigs } from './kubeconfigs.ts'
import { type ActsDeps, actsUnderWay, runActs, takeActReport } from './run-acts.ts'
import { openAct } from './testing/sample-act.ts'

let fleet: SampleFleet
let deps: ActsDeps
beforeEach(async () => {
  fleet = await sampleFleet()
  const clock = { now: () => new Date(NOW) }
  deps = { store: fleet.store, clock, feed: new ChangeFeed(), kubeconfigs: new Kubeconfigs() }
})
afterEach(() => fleet[Symbol.asyncDispose]())

const ended = (change: MessageInitShape<typeof ClusterStepEndedSchema> = {}) =>
  create(ClusterStepEndedSchema, { done: true, ...change })
const write = (change: Partial<ClusterAct> = {}) => fleet.store.transact(tx => insertAct(tx, openAct(change)))

describe('a leave that is asked for while a turn of the planner runs', () => {
  // The turn's record is from before: what was asked for since is not in it.
  const stale = sampleSnapshot()
  const leave = { act: 'leave', host: 'c', machine: 'm-c', executor: '', executorHost: '' } as const

  it('is not taken for one that was given up, and the next turn comes at once', async () => {
    const before = await actsUnderWay(deps, 'home')
    await write(leave)
    const { moved } = await runActs(deps, stale, [], undefined, before)
    expect(moved).toBe(true)
    expect((await findAct(fleet.store.db, 'act-1'))?.endedMs).toBeUndefined()
  })

  it('that was there before and is in no record was given up', async () => {
    await write(leave)
    await runActs(deps, stale, [], undefined, await actsUnderWay(deps, 'home'))
    expect(await findAct(fleet.store.db, 'act-1')).toMatchObject({ done: false, class: 'given-up' })
  })
})

describe('how an act ended', () => {
  it('counts from the machine that was asked alone, and the first time alone', async () => {
    await write()
    expect(await takeActReport(deps, 'm-b', 'act-1', ended())).toBe(true)
    expect((await findAct(fleet.store.db, 'act-1'))?.endedMs).toBeUndefined()
    expect(
      await takeActReport(deps, 'm-a', 'act-1', ended({ done: false, class: 'blocked', reason: 'web' })),
    ).toBe(true)
    expect(await takeActReport(deps, 'm-a', 'act-1', ended())).toBe(true)
    expect(await findAct(fleet.store.db, 'act-1')).toMatchObject({
      endedMs: NOW,
      done: false,
      class: 'blocked',
      reason: 'web',
    })
    // What is no act's is somebody else's to hear.
    expect(await takeActReport(deps, 'm-a', 'another', ended())).toBeUndefined()
  })

  it('counts of a restore also when it is said after its time: the machine is the only server, once', async () => {
    const late = { act: 'restore', host: 'a', machine: 'm-a', endedMs: NOW - 1, class: 'expired' } as const
    await write(late)
    const said = ended({ authority: AUTHORITY })
    for (const _ of [1, 2]) expect(await takeActReport(deps, 'm-a', 'act-1', said)).toBe(true)
    expect((await loadRecord(fleet.store.db, 'home')).record).toMatchObject({
      founding: { state: 'founded', machine: 'm-a', authority: AUTHORITY, operation: 'act-1' },
      firstServer: 'm-a',
      count: 1,
      setBackAt: 1,
    })
    expect(await findAct(fleet.store.db, 'act-1')).toMatchObject({ done: false, class: 'expired' })
  })

  it('never has a kubeconfig in the store', async () => {
    await write({ act: 'kubeconfig', host: '', machine: '' })
    const body = Buffer.from('sealed for anna')
    const value = {
      case: 'kubeconfig',
      value: { $typeName: 'muster.v1.SealedSecret', body, signature: body, minterKey: body },
    } as const
    await takeActReport(deps, 'm-a', 'act-1', ended({ value }))
    const act = await findAct(fleet.store.db, 'act-1')
    expect(Buffer.from(act!.result!).includes('sealed for anna')).toBe(false)
    expect(fromBinary(ClusterStepEndedSchema, act!.result!)).toMatchObject({ done: true })
    expect(deps.kubeconfigs.take('act-1', NOW)?.value).toEqual(value)
    expect(deps.kubeconfigs.take('act-1', NOW)).toBeUndefined()
  })

  it('of what nobody stands beside leads to another attempt, later and later', async () => {
    await write({
      act: 'manifests',
      request: 'manifests home 2',
      host: '',
      machine: '',
      expiresMs: undefined,
    })
    await takeActReport(deps, 'm-a', 'act-1', ended({ done: false, class: 'quorum', reason: 'not now' }))
    const act = await findAct(fleet.store.db, 'act-1')
    expect(act).toMatchObject({
      endedMs: undefined,
      operation: '',
      executor: '',
      attempts: 1,
      reason: 'not now',
    })
    expect(act?.notBeforeMs).toBeGreaterThan(NOW)
  })

  it('keeps a cordon in the books unless it was never set, and an uncordon lifts whatever is ours', async () => {
    const cordon = { cluster: 'home', host: 'd', act: 'act-1', askedBy: 'anna', atMs: NOW }
    await write()
    await fleet.store.transact(tx => putCordon(tx, cordon))
    await takeActReport(deps, 'm-a', 'act-1', ended({ done: false, class: 'timed-out' }))
    expect(await listCordons(fleet.store.db, 'home')).toEqual([cordon])
    await write({ id: 'act-2', request: 'operator r2', operation: 'act-2' })
    await takeActReport(deps, 'm-a', 'act-2', ended({ done: false, class: 'held' }))
    // That cordon is of the first act.
    expect(await listCordons(fleet.store.db, 'home')).toEqual([cordon])
    await write({ id: 'act-3', request: 'operator r3', operation: 'act-3', act: 'uncordon' })
    await takeActReport(deps, 'm-a', 'act-3', ended())
    expect(await listCordons(fleet.store.db, 'home')).toEqual([])
  })

  it('leaves whose cordon the node has in the books, as the server says it, done or not', async () => {
    const cordon = { cluster: 'home', host: 'd', act: 'act-1', askedBy: 'anna', atMs: NOW - 5 }
    const noted = async (change: Parameters<typeof ended>[0], act: Partial<ClusterAct> = {}) => {
      next += 1
      const id = `act-${next}`
      await write({ id, request: `operator ${id}`, operation: id, askedBy: 'bert', ...act })
      await fleet.store.transact(tx => putCordon(tx, cordon))
      await takeActReport(deps, 'm-a', id, ended(change))
      const [kept] = await listCordons(fleet.store.db, 'home')
      await fleet.store.transact(tx => dropCordon(tx, 'home', 'd'))
      return kept && [kept.act, kept.askedBy, kept.atMs]
    }
    let next = 1
    await write()
    // Somebody else’s, whatever became of the pods, or was to be lifted.
    expect(await noted({ cordonedBy: '' })).toBeUndefined()
    expect(await noted({ cordonedBy: '', done: false, class: 'blocked' })).toBeUndefined()
    expect(
      await noted({ cordonedBy: '', done: false, class: 'not-ours' }, { act: 'uncordon' }),
    ).toBeUndefined()
    // Its own, which it took over; another’s, which stayed.
    expect(await noted({ cordonedBy: 'act-5' })).toEqual(['act-5', 'bert', NOW])
    expect(await noted({ cordonedBy: 'act-1' })).toEqual(['act-1', 'anna', NOW - 5])
    expect(await noted({ cordonedBy: 'of-a-lost-store' })).toEqual(['of-a-lost-store', '', NOW])
    // A server that does not say it took over whatever was there, and says that nothing is ours.
    expect(await noted({})).toEqual(['act-8', 'bert', NOW])
    expect(await noted({ done: false, class: 'not-ours' }, { act: 'uncordon' })).toBeUndefined()
  })
})
