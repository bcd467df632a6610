import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { ChangeFeed } from '../../operations/change-feed.ts'
import { type SampleFleet, sampleFleet } from '../../revisions/testing/sample-fleet.ts'
import { NOW } from '../testing/sample-snapshot.ts'
import { findAct, insertAct, listCordons, putCordon } from './act-store.ts'
import type { ClusterAct } from './cluster-act.ts'
import { Kubeconfigs } from './kubeconfigs.ts'
import { type ActsDeps, takeActReport } from './run-acts.ts'
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
})
