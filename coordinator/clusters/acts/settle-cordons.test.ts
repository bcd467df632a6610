import { fromBinary } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ClusterOrderSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { operationId } from '../../../shared/ids.ts'
import { type SampleFleet, sampleFleet } from '../../revisions/testing/sample-fleet.ts'
import { noteLostRollout, readLostRollouts, textOfLost } from '../../rollouts/lost-rollouts.ts'
import type { ClusterSnapshot, NodeObject } from '../cluster-snapshot.ts'
import { NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import { forgottenCordon } from './act-problems.ts'
import { insertAct, listCordons, openActs } from './act-store.ts'
import type { ClusterAct } from './cluster-act.ts'
import { drainId } from './drain-id.ts'
import { settleCordons } from './settle-cordons.ts'
import { openAct } from './testing/sample-act.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

/** The cluster as its servers see it, with something else said of d's Node. */
function withNode(change: Partial<NodeObject>, asOfMs = NOW - 10_000): ClusterSnapshot {
  const snapshot = sampleSnapshot()
  const machines = new Map(
    [...snapshot.machines].map(([id, machine]) => {
      const { observation } = machine
      const nodes = observation?.view?.nodes.map(node => (node.name === 'd' ? { ...node, ...change } : node))
      if (!observation?.view || !nodes) return [id, machine]
      return [
        id,
        { ...machine, observation: { ...observation, asOfMs, view: { ...observation.view, nodes } } },
      ]
    }),
  )
  return { ...snapshot, machines }
}

const settle = (change: Partial<NodeObject>, asOfMs = NOW - 10_000) =>
  settleCordons(
    { store: fleet.store, clock: { now: () => new Date(asOfMs + 10_000) } },
    withNode(change, asOfMs),
  )
const cordons = () => listCordons(fleet.store.db, 'home')
const write = (change: Partial<ClusterAct>) => fleet.store.transact(tx => insertAct(tx, openAct(change)))
const ours = { unschedulable: true, cordonedBy: 'act-1' } as const

describe('cordons of ours after a store or a datastore was set back', () => {
  it('are found again by the mark on the node, and named when nothing of ours needs them', async () => {
    expect(await settle(ours)).toBe(true)
    const [cordon] = await cordons()
    expect(cordon).toEqual({ cluster: 'home', host: 'd', act: 'act-1', askedBy: '', atMs: NOW })
    expect(cordon && forgottenCordon(cordon, undefined, NOW + 3_600_000)).toContain('`muster uncordon d`')
    // Found once.
    expect(await settle(ours)).toBe(false)
    // And forgotten when somebody lifted it, but not by what was seen before.
    expect(await settle({ unschedulable: false })).toBe(false)
    expect(await cordons()).toHaveLength(1)
    expect(await settle({ unschedulable: false }, NOW + 1)).toBe(true)
    expect(await cordons()).toEqual([])
  })

  it('are lifted again where they were lifted before: once, by a server, and by their mark alone', async () => {
    await write({ id: 'act-1', endedMs: NOW - 50_000, done: true })
    const lift = { id: 'act-2', request: 'operator r2', operation: 'act-2', act: 'uncordon' } as const
    await write({ ...lift, endedMs: NOW - 40_000, done: true })
    expect(await settle(ours)).toBe(true)
    const [act] = await openActs(fleet.store.db, 'home')
    expect(act).toMatchObject({ act: 'uncordon', host: 'd', askedBy: 'coordinator', executor: '' })
    const order = fromBinary(ClusterOrderSchema, act?.order ?? new Uint8Array())
    expect(order.action).toMatchObject({ case: 'uncordon', value: { node: 'd', cordonedBy: 'act-1' } })
    expect(await settle(ours)).toBe(false)
    expect(await openActs(fleet.store.db, 'home')).toHaveLength(1)
  })

  it('T62: name the rollout that drained the node and is lost with the store, by the mark on the node', async () => {
    const rollout = operationId(new Date(NOW - 60_000))
    expect(await settle({ unschedulable: true, cordonedBy: drainId(new Date(NOW), rollout) })).toBe(true)
    expect(await cordons()).toMatchObject([{ host: 'd', rollout }])
    const lost = async () => (await readLostRollouts(fleet.store.db)).map(textOfLost)
    expect(await lost()).toEqual([`rollout ${rollout} (drain) is not in the store: d had orders of it`])
    // A node that had an order of it says what it was about.
    const told = { id: rollout, action: 'apply', revision: 7, host: 'd' }
    await fleet.store.transact(tx => noteLostRollout(tx, told, 'd', new Date(NOW)))
    expect(await lost()).toEqual([
      `rollout ${rollout} (apply revision 7) is not in the store: d had orders of it`,
    ])
  })

  it('of anybody else are none of ours', async () => {
    expect(await settle({ unschedulable: true })).toBe(false)
    expect(await cordons()).toEqual([])
  })
})
