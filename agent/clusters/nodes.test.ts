import { beforeAll, describe, expect, it } from 'vitest'
import { durationFromMs } from '../../shared/time.ts'
import type { GeneratedKey } from '../../shared/x509/machine-key.ts'
import type { NodeReading } from '../drivers/kubernetes/node-reading.ts'
import { done, failed } from '../drivers/result.ts'
import { evidence } from '../drivers/testing/made-up-objects.ts'
import { type ClusterKeys, ClusterNode, idOf, makeClusterKeys } from './testing/cluster-node.ts'
import { SOMEBODY } from './testing/made-up-driver.ts'

import { mintFor, poll } from './testing/sample-orders.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

describe('nodes', () => {
  it('are drained with our mark, by which the cordon is lifted again', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    await node.give('d1', { case: 'drain', value: { node: 'n4', limit: durationFromMs(60_000) } })
    await poll(() => node.inWords('d1')).toBe('done')
    await node.give('u1', { case: 'uncordon', value: { node: 'n4', cordonedBy: 'other' } })
    await poll(() => node.inWords('u1')).toBe('failed not-ours')
    await node.give('u2', { case: 'uncordon', value: { node: 'n4' } })
    await poll(() => node.inWords('u2')).toBe('done')
    await node.give('d2', { case: 'drain', value: { node: 'n4', cordonOnly: true } })
    await poll(() => node.inWords('d2')).toBe('done')
    expect(node.machine.did).toEqual([
      ...['cordon n4 d1', 'drain n4', 'uncordon n4 other', 'evidence n4', 'evidence n4', 'uncordon n4 d1'],
      'cordon n4 d2',
    ])
    // Whose cordon the node was left with is told of each.
    const told = ['d1', 'u1', 'u2', 'd2'].map(id => node.ended(id)?.cordonedBy)
    expect(told).toEqual(['d1', 'd1', '', 'd2'])
  })

  it('that somebody cordoned without us, or another operation, are drained and stay theirs', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.cordonedBy.set('n4', SOMEBODY).set('n5', 'other').set('n6', 'before')
    const drains = { d4: ['n4', ''], d5: ['n5', ''], d6: ['n6', 'before'] } as const
    for (const [id, [name, takesOver]] of Object.entries(drains)) {
      await node.give(id, { case: 'drain', value: { node: name, takesOver } })
      await poll(() => node.inWords(id)).toBe('done')
    }
    expect(node.ended('d4')).toMatchObject({
      cordonedBy: '',
      value: { value: '3 pods evicted; node n4 was cordoned by somebody else, and stays so' },
    })
    expect(node.ended('d5')).toMatchObject({
      cordonedBy: 'other',
      value: { value: '3 pods evicted; node n5 was cordoned by operation other, and stays so' },
    })
    expect(node.ended('d6')).toMatchObject({ cordonedBy: 'd6' })
    expect([...node.machine.cordonedBy.values()]).toEqual([SOMEBODY, 'other', 'd6'])
  })

  it('whose drain the agent’s stop cuts off are drained when it starts again, and nothing is told of it before', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const pause = node.pauseAt('before drain')
    await node.give('d1', { case: 'drain', value: { node: 'n4', limit: durationFromMs(60_000) } })
    await pause.reached
    const stopped = node.stop()
    pause.goOn()
    await stopped
    expect(node.inWords('d1')).toBeUndefined()
    await node.run()
    await poll(() => node.inWords('d1')).toBe('done')
    expect(node.machine.did).toEqual(['cordon n4 d1', 'drain n4', 'cordon n4 d1', 'drain n4'])
  })

  it('that take long to drain keep no machine from its token', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const pause = node.pauseAt('before drain')
    await node.give('d1', { case: 'drain', value: { node: 'n5' } })
    await pause.reached
    await node.give('j1', mintFor('n4', keys.n4))
    await poll(() => node.inWords('j1')).toBe('minted')
    expect(node.inWords('d1')).toBeUndefined()
    pause.goOn()
    await poll(() => node.inWords('d1')).toBe('done')
  })

  const clearOf = (node: string, key: GeneratedKey) =>
    ({ case: 'clearNode', value: { node, machine: idOf(key) } }) as const
  /** A Node whose lease is as these times say, one look after the other; the last one stays. */
  const leaseOf = (change: Partial<NodeReading>, ...times: readonly number[]) => {
    let look = 0
    return () => {
      const renewedMs = times[Math.min(look++, times.length - 1)]
      return done({ ...evidence(renewedMs, change), leaseMs: 40_000 })
    }
  }

  it('are cleared away only where nobody lives under the name', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.members = [node.machine.member('n1'), node.machine.member('n2')]
    const clear = clearOf('n2', keys.n2)
    await node.give('c1', clear)
    await poll(() => node.inWords('c1')).toBe('failed quorum')
    node.machine.members = [node.machine.member('n1'), node.machine.member('n2', { healthy: false })]
    await node.give('c2', clear)
    await poll(() => node.inWords('c2')).toBe('done')
    await node.give('c3', clearOf('n2', keys.stranger))
    await poll(() => node.inWords('c3')).toBe('failed manifest')
  })

  it('are never cleared away while their lease is renewed, be they workers or servers whose member does not answer', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.members = [node.machine.member('n1'), node.machine.member('n2', { healthy: false })]
    // The last look sees it: it renews every ten seconds, and is looked at for twenty.
    for (const [name, key] of [['n4', keys.n4] as const, ['n2', keys.n2] as const]) {
      node.machine.evidence.set(name, leaseOf({}, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2))
      await node.give(`c-${name}`, clearOf(name, key))
      await poll(() => node.inWords(`c-${name}`)).toBe('failed alive')
    }
    expect(node.machine.did.filter(word => word.startsWith('remove'))).toEqual([])
    // It was only rebooted: its member answers again while it is watched.
    node.machine.evidence.set('n2', leaseOf({}, 1))
    let looks = 0
    node.machine.onStep = async step => {
      if (step === 'before members' && ++looks === 8)
        node.machine.members = [node.machine.member('n1'), node.machine.member('n2')]
    }
    await node.give('c-back', clearOf('n2', keys.n2))
    await poll(() => node.inWords('c-back')).toBe('failed quorum')
    expect(node.machine.did.filter(word => word.startsWith('remove'))).toEqual([])
  })

  it('are cleared away where a machine was installed anew, also over what a join left running that broke off', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.members = [node.machine.member('n1')]
    node.machine.evidence.set('n4', leaseOf({}, 7))
    await node.give('c1', clearOf('n4', keys.n4))
    await poll(() => node.inWords('c1')).toBe('done')
    const ready = {
      status: 'False',
      heartbeatMs: 1,
      reason: 'KubeletNotReady',
      message: 'no network',
    } as const
    node.machine.evidence.set('n4', leaseOf({ ready }, 1, 2, 3, 4, 5, 6))
    await node.give('c2', clearOf('n4', keys.n4))
    await poll(() => node.inWords('c2')).toBe('done')
    const looked = node.machine.did.filter(word => word === 'evidence n4').length
    // Where nothing is left of it but what lies beside a Node nobody is watched.
    node.machine.evidence.set('n4', () => ({ ...failed('command', 'not found'), status: 'NotFound' }))
    await node.give('c3', clearOf('n4', keys.n4))
    await poll(() => node.inWords('c3')).toBe('done')
    expect(node.machine.did.filter(word => word === 'evidence n4')).toHaveLength(looked + 1)
  })
})
