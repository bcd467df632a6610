import { beforeAll, describe, expect, it } from 'vitest'
import {
  type ClusterKeys,
  ClusterNode,
  clusterRevision,
  idOf,
  makeClusterKeys,
} from '../testing/cluster-node.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 5 })

/** A server's machine that was installed anew, with a snapshot that somebody carried there. */
async function installedAnew(): Promise<ClusterNode> {
  const node = await ClusterNode.start(keys, 'n1')
  node.machine.snapshots.push('first')
  return node
}

function restoreOn(node: ClusterNode, authority = '') {
  const signedOrder = node.signed({
    act: 'restore',
    node: 'n1',
    machine: idOf(node.key),
    parameter: 'first',
  })
  return { case: 'restore', value: { name: 'first', signedOrder, authority } } as const
}

const authorityTold = (node: ClusterNode, operation: string) =>
  node.reportsOf(operation).flatMap(({ result }) => (result.case === 'ended' ? [result.value.authority] : []))

describe('a restore on a machine that has nothing of any cluster', () => {
  it('founds the cluster there by the snapshot, and says which it is', async () => {
    await using node = await installedAnew()
    await node.give('r1', restoreOn(node, node.machine.authority))
    await poll(() => node.inWords('r1')).toBe('done')
    expect(node.machine.data).toMatchObject({ kind: 'cluster', server: true })
    expect(node.machine.adopted).toBe(node.machine.authority)
    expect(authorityTold(node, 'r1')).toEqual([node.machine.authority])
  })

  it('is refused with a snapshot of another cluster than the coordinator knows', async () => {
    await using node = await installedAnew()
    await node.give('r1', restoreOn(node, 'f'.repeat(64)))
    await poll(() => node.inWords('r1')).toBe('failed precondition')
    expect(node.machine.data).toEqual({ kind: 'none' })
  })

  it('needs an operator’s signature like any other', async () => {
    await using node = await installedAnew()
    await node.give('r1', { case: 'restore', value: { name: 'first' } })
    await poll(() => node.inWords('r1')).toMatch(/^failed order-/)
    expect(node.machine.did).toEqual([])
  })

  it('needs all that founding needs, and the manifest’s word that the machine is a server', async () => {
    await using node = await installedAnew()
    node.machine.shortfalls = [{ what: 'clock', reason: 'the clock is not synchronised yet' }]
    await node.give('r1', restoreOn(node))
    await poll(() => node.inWords('r1')).toBe('failed precondition')
    expect(node.reasonOf('r1')).toContain('the clock is not synchronised yet')
    node.machine.shortfalls = []
    node.machine.held = true
    await node.give('r2', restoreOn(node))
    await poll(() => node.inWords('r2')).toBe('failed held')
    node.machine.held = false
    const machines = { n2: idOf(keys.n2) }
    await node.clusters.announced(clusterRevision(keys, { number: 6, machines }))
    await node.give('r3', restoreOn(node))
    await poll(() => node.inWords('r3')).toBe('failed manifest')
    expect(node.machine.did).toEqual([])
  })

  it('takes away first what an attempt of ours left, and no data that nobody of ours made', async () => {
    await using node = await installedAnew()
    node.machine.begun = 'op-before'
    node.machine.data = { kind: 'unreadable', reason: 'half of it' }
    await node.give('r1', restoreOn(node))
    await poll(() => node.inWords('r1')).toBe('done')
    expect(node.machine.did).toEqual(['members', 'wipe', 'restore first'])
    await using other = await installedAnew()
    other.machine.belongs()
    other.machine.adopted = undefined
    await other.give('r1', restoreOn(other))
    await poll(() => other.inWords('r1')).toBe('failed not-adopted')
    expect(other.machine.did).toEqual([])
  })

  it('is gone on with by an agent that was killed in the middle of it', async () => {
    await using node = await installedAnew()
    const { reached } = node.pauseAt('before restore')
    await node.give('r1', restoreOn(node))
    await reached
    node.kill()
    await node.run()
    await poll(() => node.inWords('r1')).toBe('done')
    expect(authorityTold(node, 'r1')).toEqual([node.machine.authority])
  })

  it('that failed can be ordered again with the same signature', async () => {
    await using node = await installedAnew()
    node.machine.snapshots.pop()
    const order = restoreOn(node)
    await node.give('r1', order)
    await poll(() => node.inWords('r1')).toBe('failed not-found')
    node.machine.snapshots.push('first')
    await node.give('r2', order)
    await poll(() => node.inWords('r2')).toBe('done')
  })

  it('has its snapshots listed and told of before, and told of no more when there is data', async () => {
    await using node = await installedAnew()
    const told = async () =>
      (await node.clusters.answer({ requestId: 'q' }, new AbortController().signal)).snapshots
    expect(await told()).toEqual(['first'])
    node.machine.belongs()
    expect(await told()).toEqual([])
    await node.give('l1', { case: 'snapshots', value: {} })
    await poll(() => node.inWords('l1')).toBe('done')
    const [report] = node.reportsOf('l1')
    expect(report?.result).toMatchObject({
      value: { value: { case: 'snapshots', value: { snapshots: [{ name: 'first' }] } } },
    })
  })
})
