import { describe, expect, it } from 'vitest'
import { emptyRecord } from '../../clusters/cluster-record.ts'
import { applyStep } from '../../clusters/steps.ts'
import { clusterData, foundedRecord, NOW, sampleSnapshot } from '../../clusters/testing/sample-snapshot.ts'
import { viewOfCluster } from './cluster-view.ts'

const view = (...input: Parameters<typeof sampleSnapshot>) =>
  viewOfCluster(sampleSnapshot(...input), new Map(), NOW)

describe('what rollouts see of a cluster', () => {
  it('is each host with its part, whether it is Ready, and what it runs', () => {
    const { members, datastore, first } = view()
    expect(members.get('d')).toMatchObject({
      joined: true,
      server: false,
      ready: true,
      version: '1.34.3',
      kubelet: '1.34.3',
      asOfMs: NOW - 10_000,
      nodeless: false,
      cordonedBy: undefined,
    })
    expect(members.get('a')).toMatchObject({ joined: true, server: true, ready: true })
    expect(datastore).toMatchObject({ kind: 'read', quorum: { voters: 3, healthy: 3 } })
    expect(first).toBe('a')
  })

  it('is who leads its datastore, by the newest that a server said of it, whoever was first', () => {
    expect(view().leader).toBeUndefined()
    expect(view({ c: { member: { leads: true } } }).leader).toBe('c')
    // Two that say so are an election that one of them has not heard of; a name that no server has is nobody.
    expect(view({ b: { member: { leads: true } }, c: { member: { leads: true } } }).leader).toBeUndefined()
    expect(view({ d: { member: { leads: true } } }).leader).toBeUndefined()
    // What was seen before the last change of servers says nothing, nor does what is old.
    const settled = { ...foundedRecord(), settledMs: NOW }
    expect(view({ c: { member: { leads: true } } }, settled).leader).toBeUndefined()
    const old = { agoMs: 120_000 }
    const silent = view({ a: old, b: old, c: { ...old, member: { leads: true } } })
    expect([silent.leader, silent.first]).toEqual([undefined, 'a'])
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

  it('T40: has of each node what its kubelet and its own machine say, and of each renewal all that any server saw', () => {
    const whole = sampleSnapshot()
    const renewedAfterMs = new Map([
      ['m-a', 5],
      ['m-b', 7],
    ])
    const machines = new Map(
      [...whole.machines].map(([id, machine]) => {
        const { observation } = machine
        if (!observation) return [id, machine]
        const seen = observation.view
        const nodes = seen?.nodes.map(node => ({
          ...node,
          renewedMs: 9,
          bootId: 'boot-2',
          renewedAfterMs: renewedAfterMs.get(id),
        }))
        const own = { bootId: 'boot-3', kubeletStartedMs: 8 }
        return [
          id,
          {
            ...machine,
            observation: { ...observation, ...own, view: seen && { ...seen, nodes: nodes ?? [] } },
          },
        ]
      }),
    )
    expect(viewOfCluster({ ...whole, machines }, new Map(), NOW).members.get('d')?.evidence).toEqual({
      renewedMs: 9,
      renewedAfterMs: 7,
      startedMs: 8,
      bootId: 'boot-2',
      ownBootId: 'boot-3',
    })
  })

  it('T67: says of nothing that nobody knows that it is well, or that it is no part of the cluster', () => {
    expect(view({ d: { agoMs: undefined } }).members.get('d')?.joined).toBeUndefined()
    expect(view({ d: { data: clusterData(false, 'b'.repeat(64)) } }).members.get('d')?.joined).toBeUndefined()
    const silent = view({ a: { connected: false }, b: { connected: false }, c: { connected: false } })
    expect(silent.members.get('d')?.ready).toBeUndefined()
    expect(silent.datastore.kind).toBe('unknown')
  })

  it('takes nobody for a node of a cluster that was never founded who says that it has none, or who is no machine', () => {
    const changes = { c: { machine: undefined }, d: { data: { kind: 'none' } } } as const
    const { members } = view(changes, emptyRecord('home'))
    expect(members.get('c')?.joined).toBe(false)
    expect(members.get('d')?.joined).toBe(false)
  })

  it.each([
    ['who runs one that is not adopted', {}],
    ['whose disk cannot be read', { data: { kind: 'unreadable', reason: 'EIO' } }],
    ['on whose disk an attempt is that nobody here knows', { data: { kind: 'unfinished', operation: 'o' } }],
    ['who has never said anything', { agoMs: undefined }],
  ] as const)(
    'cannot say of a machine whether it is a node before its cluster is founded or adopted: %s',
    (_, d) => {
      expect(view({ d }, emptyRecord('home')).members.get('d')?.joined).toBeUndefined()
    },
  )

  it('cannot say it of one that is to found, whatever it said before', () => {
    const { founding } = sampleSnapshot().record
    const change = { founding: founding && { ...founding, state: 'ordered' as const } }
    expect(view({ a: { data: { kind: 'none' } } }, change).members.get('a')?.joined).toBeUndefined()
  })

  it('cannot say it of one that is joining, whatever it said before', () => {
    const { record } = sampleSnapshot()
    const mint = { kind: 'mint', machine: 'm-d', host: 'd', role: 'worker', minter: 'm-a', why: '' } as const
    const { joins } = applyStep(record, mint, NOW)
    const d = { data: { kind: 'none' } } as const
    expect(view({ d }, { joins }).members.get('d')?.joined).toBeUndefined()
    expect(view({ d }, {}).members.get('d')?.joined).toBe(false)
  })
})
