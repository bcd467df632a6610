import { describe, expect, it } from 'vitest'
import { emptyRecord } from '../../clusters/cluster-record.ts'
import { clusterData, NOW, sampleSnapshot } from '../../clusters/testing/sample-snapshot.ts'
import { viewOfCluster } from './cluster-view.ts'

const view = (...input: Parameters<typeof sampleSnapshot>) =>
  viewOfCluster(sampleSnapshot(...input), new Map(), NOW)

describe('what rollouts see of a cluster', () => {
  it('is each host with its part, whether it is Ready, and what it runs', () => {
    const { members, datastore, leader } = view()
    expect(members.get('d')).toEqual({
      ...{ joined: true, server: false, ready: true, version: '1.34.3', kubelet: '1.34.3' },
      ...{ asOfMs: NOW - 10_000, nodeless: false, cordonedBy: undefined },
    })
    expect(members.get('a')).toMatchObject({ joined: true, server: true, ready: true })
    expect(datastore).toMatchObject({ kind: 'read', quorum: { voters: 3, healthy: 3 } })
    expect(leader).toBe('a')
  })

  it('tells a server without a Node, of which there is nothing to drain, from one that nobody sees', () => {
    expect(view().members.get('a')?.nodeless).toBe(false)
    const whole = sampleSnapshot()
    const machines = new Map(
      [...whole.machines].map(([id, machine]) => {
        const seen = machine.observation?.view
        const nodes = seen?.nodes.filter(({ name }) => name !== 'a') ?? []
        const observation = machine.observation && {
          ...machine.observation,
          view: seen && { ...seen, nodes },
        }
        return [id, { ...machine, observation }]
      }),
    )
    const without = viewOfCluster({ ...whole, machines }, new Map(), NOW)
    expect(without.members.get('a')).toMatchObject({ nodeless: true, ready: true })
    const unseen = view({ a: { connected: false }, b: { connected: false }, c: { connected: false } })
    expect(unseen.members.get('a')?.nodeless).toBe(false)
  })

  it('T40: is as old as the oldest of what it rests on', () => {
    const { members } = view({ d: { agoMs: 60_000 } })
    expect(members.get('d')?.asOfMs).toBe(NOW - 60_000)
    expect(view({ d: { connected: false } }).members.get('d')?.asOfMs).toBe(Number.NEGATIVE_INFINITY)
  })

  it('T67: says of nothing that nobody knows that it is well, or that it is no part of the cluster', () => {
    expect(view({ d: { agoMs: undefined } }).members.get('d')?.joined).toBeUndefined()
    expect(view({ d: { data: clusterData(false, 'b'.repeat(64)) } }).members.get('d')?.joined).toBeUndefined()
    const silent = view({ a: { connected: false }, b: { connected: false }, c: { connected: false } })
    expect(silent.members.get('d')?.ready).toBeUndefined()
    expect(silent.datastore.kind).toBe('unknown')
  })

  it('takes nobody for a node of a cluster that was never founded, but for those that run one already', () => {
    const { members } = view({ d: { data: { kind: 'none' } } }, emptyRecord('home'))
    expect(members.get('d')?.joined).toBe(false)
    expect(members.get('e')?.joined).toBeUndefined()
  })
})
