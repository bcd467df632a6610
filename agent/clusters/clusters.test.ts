import { beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import { ClusterRole, SecretPurpose } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { sampleFleetId } from '../../shared/revision/testing/sample-fleet.ts'
import { openSecret } from '../../shared/sealing/open-secret.ts'
import { failed } from '../drivers/result.ts'
import { type ClusterKeys, ClusterNode, idOf, makeClusterKeys } from './testing/cluster-node.ts'

import { found, mintFor, poll, stop } from './testing/sample-orders.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

describe('founding', () => {
  it('is done once, however often it is ordered, and says whose cluster it is', async () => {
    await using node = await ClusterNode.start(keys)
    await Promise.all([node.give('o1', found), node.give('o1', found), node.give('o1', found)])
    await poll(() => node.inWords('o1')).toBe('done')
    await node.give('o1', found)
    expect(node.machine.did).toEqual(['found o1'])
    const [report] = node.reportsOf('o1')
    expect(report?.result).toMatchObject({
      case: 'ended',
      value: { done: true, authority: node.machine.authority },
    })
  })

  it('is refused where data of any cluster lies, and where the signed manifest names no such server', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.adopted = undefined
    await node.give('o1', found)
    await poll(() => node.inWords('o1')).toBe('failed data-present')
    await using worker = await ClusterNode.start(keys, 'n4')
    await worker.give('o1', found)
    await poll(() => worker.inWords('o1')).toBe('failed manifest')
    expect([...node.machine.did, ...worker.machine.did]).toEqual([])
  })

  it.each([
    ['no cluster part', { openDriver: async () => ({ kind: 'none' }) as const }, 'failed no-cluster-part'],
    ['a node that is held', { held: () => 'broken disk' }, 'failed held'],
    ['a system that is being changed', { busy: () => 'operation x' }, 'failed busy'],
    ['an owner who does not allow it', { allow: ['apply'] }, 'failed not-allowed'],
  ])('is refused with %s', async (_name, deps, words) => {
    await using node = await ClusterNode.start(keys, 'n1', deps)
    await node.give('o1', found)
    await poll(() => node.inWords('o1')).toBe(words)
    expect(node.machine.did).toEqual([])
  })

  it('says everything that is missing on the machine, and is refused after its time', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.shortfalls = [{ what: 'clock', reason: 'is not set' }]
    await node.give('o1', found)
    await poll(() => node.inWords('o1')).toBe('failed precondition')
    expect(node.reasonOf('o1')).toBe('clock: is not set')
    const late = node.order('o2', found)
    node.nowMs += 3_600_001
    await node.clusters.accept(late)
    expect(node.inWords('o2')).toBe('failed expired')
    await node.give('o3', found, 'other')
    await poll(() => node.inWords('o3')).toBe('failed cluster')
  })

  it('takes away what another attempt of ours left, and nothing else', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.begun = 'o0'
    node.machine.data = {
      kind: 'cluster',
      distribution: 'components',
      server: true,
      authority: 'd'.repeat(64),
    }
    await node.give('o1', found)
    await poll(() => node.inWords('o1')).toBe('done')
    expect(node.machine.did).toEqual(['members', 'wipe', 'found o1'])
  })
})

describe('joining', () => {
  const joinOf = async (server: ClusterNode, operation: string) => {
    server.machine.belongs()
    await server.give(operation, mintFor('n4', keys.n4))
    await poll(() => server.inWords(operation)).toBe('minted')
    return { case: 'join', value: { secret: server.sealedOf(operation), serverAddress: '' } } as const
  }

  it('goes on after a kill with the secret that it has, though the order does not come again', async () => {
    await using server = await ClusterNode.start(keys)
    await using worker = await ClusterNode.start(keys, 'n4')
    const pause = worker.pauseAt('before join')
    await worker.give('j1', await joinOf(server, 'j1'))
    await pause.reached
    expect(worker.inWords('j1')).toBe('received')
    worker.kill()
    // Its time is over meanwhile: it was begun.
    worker.nowMs += 7_200_000
    await worker.run()
    await poll(() => worker.inWords('j1')).toBe('done')
    expect(worker.machine.joinedWith).toHaveLength(1)
  })

  it('is stopped before it is begun, and never begins; what has begun goes on and says how it ended', async () => {
    await using server = await ClusterNode.start(keys)
    await using worker = await ClusterNode.start(keys, 'n4')
    const join = await joinOf(server, 'j1')
    await worker.give('j1', stop)
    expect(worker.inWords('j1')).toBe('failed stopped')
    await worker.give('j1', join)
    expect(worker.inWords('j1')).toBe('failed stopped')
    const pause = worker.pauseAt('before join')
    await worker.give('j2', await joinOf(server, 'j2'))
    await pause.reached
    await worker.give('j2', stop)
    expect(worker.inWords('j2')).toBe('received')
    pause.goOn()
    await poll(() => worker.inWords('j2')).toBe('done')
    expect(worker.machine.did).toEqual(['join j2'])
  })

  it('is not answered without a secret, so that it can still come with one', async () => {
    await using server = await ClusterNode.start(keys)
    await using worker = await ClusterNode.start(keys, 'n4')
    await worker.give('j1', { case: 'join', value: { serverAddress: '' } })
    expect(worker.clusters.reports()).toEqual([])
    await worker.give('j1', await joinOf(server, 'j1'))
    await poll(() => worker.inWords('j1')).toBe('done')
  })
})

describe('what only an operator may order', () => {
  const own = (node: ClusterNode) => ({ node: 'n1', machine: idOf(node.key) })

  it('is refused without a signature, with a stranger’s, and for anything else than was signed', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const wipe = (signedOrder?: ReturnType<ClusterNode['signed']>) =>
      ({ case: 'wipe', value: signedOrder ? { signedOrder } : {} }) as const
    await node.give('w1', wipe())
    await node.give('w2', wipe(node.signed({ act: 'wipe', ...own(node) }, generateSigningKey())))
    await node.give('w3', wipe(node.signed({ act: 'wipe', node: 'n2', machine: idOf(keys.n2) })))
    await node.give('w4', wipe(node.signed({ act: 'leave', ...own(node) })))
    await node.give('w5', wipe(node.signed({ act: 'wipe', ...own(node), cluster: 'other' })))
    await poll(() => node.inWords('w5')).toBe('failed order-cluster')
    expect(['w1', 'w2', 'w3', 'w4'].map(id => node.inWords(id))).toEqual([
      'failed order-signature',
      'failed order-signature',
      'failed order-node',
      'failed order-act',
    ])
    expect(node.machine.did).toEqual([])
  })

  it('counts once, over a restart too; what failed may be tried again', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const signedOrder = node.signed({
      act: 'restore',
      node: 'n1',
      machine: idOf(node.key),
      parameter: 'before',
    })
    const restore = { case: 'restore', value: { name: 'before', signedOrder } } as const
    node.machine.snapshots.push('before')
    node.machine.fails.set('restore', failed('not-found', 'no such snapshot'))
    await node.give('r1', restore)
    await poll(() => node.inWords('r1')).toBe('failed not-found')
    node.machine.fails.delete('restore')
    await node.give('r2', restore)
    await poll(() => node.inWords('r2')).toBe('done')
    await node.stop()
    await node.run()
    await node.give('r3', restore)
    await poll(() => node.inWords('r3')).toBe('failed order-replayed')
    expect(node.machine.did.filter(each => each.startsWith('restore'))).toEqual([
      'restore before',
      'restore before',
    ])
  })

  it('is not done to a cluster that nobody adopted; adopting restarts nothing', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    node.machine.adopted = undefined
    const wipe = () =>
      ({ case: 'wipe', value: { signedOrder: node.signed({ act: 'wipe', ...own(node) }) } }) as const
    await node.give('w1', wipe())
    await poll(() => node.inWords('w1')).toBe('failed not-adopted')
    await node.give('m1', mintFor('n4', keys.n4))
    await poll(() => node.inWords('m1')).toBe('failed not-adopted')
    await node.give('a1', { case: 'adopt', value: { authority: 'e'.repeat(64) } })
    await poll(() => node.inWords('a1')).toBe('failed data-present')
    await node.give('a2', { case: 'adopt', value: { authority: node.machine.authority } })
    await poll(() => node.inWords('a2')).toBe('done')
    expect(node.machine.did.map(each => each.split(' ')[0])).toEqual(['adopt', 'adopt'])
    await node.give('w2', wipe())
    await poll(() => node.inWords('w2')).toBe('done')
    expect(node.machine.data.kind).toBe('none')
  })

  it('takes this server out and then its data away, and goes on there after a kill', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const signedOrder = node.signed({ act: 'leave', ...own(node) })
    const pause = node.pauseAt('after leave')
    await node.give('l1', { case: 'leave', value: { node: 'n1', signedOrder } })
    await pause.reached
    node.kill()
    await node.run()
    await poll(() => node.inWords('l1')).toBe('done')
    expect(node.machine.did).toEqual(['leave l1', 'leave l1', 'wipe'])
    expect(node.machine.data.kind).toBe('none')
  })

  it('takes a machine that is gone out by another server, and that very machine only', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const leave = (machine: string) =>
      ({
        case: 'leave',
        value: {
          node: 'n2',
          dead: true,
          signedOrder: node.signed({ act: 'leave', node: 'n2', machine, dead: true }),
        },
      }) as const
    await node.give('l1', leave('9'.repeat(64)))
    await poll(() => node.inWords('l1')).toBe('failed order-machine')
    await node.give('l2', leave(idOf(keys.n2)))
    await poll(() => node.inWords('l2')).toBe('done')
    expect(node.machine.did).toEqual(['remove n2'])
  })

  it('seals a kubeconfig to the key that was signed for, and shows it nowhere', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.belongs()
    const recipientKey = Uint8Array.from(keys.stranger.publicKeyDer)
    const signedOrder = node.signed({ act: 'kubeconfig', recipientKey })
    await node.give('k1', { case: 'kubeconfig', value: { serverAddress: '', signedOrder } })
    await poll(() => node.inWords('k1')).toBe('done')
    expect(node.machine.did).toEqual(['kubeconfig 10.91.0.10:6443'])
    const [report] = node.reportsOf('k1')
    const ended = report?.result.case === 'ended' ? report.result.value.value : undefined
    if (ended?.case !== 'kubeconfig') throw new Error('no kubeconfig was told')
    const openedBy = (key: { privateKeyPem: string }) =>
      openSecret(ended.value, key.privateKeyPem, {
        binding: {
          purpose: SecretPurpose.KUBECONFIG,
          fleetId: sampleFleetId,
          cluster: 'home',
          role: ClusterRole.UNSPECIFIED,
          recipient: idOf(keys.stranger),
          operationId: 'k1',
        },
        minters: new Set([idOf(node.key)]),
        spent: new Map(),
        nowMs: node.nowMs,
      })
    const opened = openedBy(keys.stranger)
    if (opened.kind !== 'opened') throw new Error(opened.reason)
    expect(opened.secret.reveal().toString()).toContain(node.machine.secretText)
    // Neither the server that made it nor anybody on the way can.
    for (const other of [node.key, keys.n2]) expect(openedBy(other)).toMatchObject({ class: 'sealed' })
    expect(await node.everythingKept()).not.toContain(node.machine.secretText)
  })
})

describe('the state', () => {
  it('T40: is read after the question, with nodes Ready only by a lease renewed since', async () => {
    await using node = await ClusterNode.start(keys)
    const ask = async (requestId: string) =>
      await node.clusters.answer({ requestId }, new AbortController().signal)
    expect(await ask('q0')).toMatchObject({
      cluster: 'home',
      requestId: 'q0',
      data: { case: 'none' },
      version: '',
    })
    node.machine.begun = 'o1'
    expect(await ask('q1')).toMatchObject({ data: { case: 'unfinished', value: { operationId: 'o1' } } })
    node.machine.begun = undefined
    node.machine.belongs()
    node.machine.members = [
      node.machine.member('n1', { leads: true }),
      node.machine.member('n2', { learner: true }),
    ]
    const seen = { name: 'n4', uid: 'u', saysReady: true, kubeletVersion: 'v1.34.3+k3s1' }
    node.machine.nodes = [{ ...seen, renewedMs: 1 }]
    const first = await ask('q2')
    expect(first).toMatchObject({
      version: '1.34.3',
      data: { case: 'present', value: { authority: node.machine.authority, server: true } },
      view: {
        ready: true,
        members: [
          { name: 'n1', learner: false, leads: true },
          { name: 'n2', learner: true, leads: false },
        ],
      },
    })
    // One that was added and never started has no name of its own.
    const unstarted = { name: '', healthy: false }
    const strange = { ...unstarted, peerUrls: ['https://10.91.0.99:2380'] }
    node.machine.members = [node.machine.member('n2', unstarted), node.machine.member('n3', strange)]
    expect((await ask('q2b')).view?.members).toMatchObject([{ name: 'n2' }, { name: '' }])
    expect(first.view?.nodes).toMatchObject([{ name: 'n4', ready: false, kubeletVersion: '1.34.3' }])
    node.machine.nodes = [{ ...seen, renewedMs: 2 }]
    expect((await ask('q3')).view?.nodes).toMatchObject([{ ready: true }])
    // Made anew under the same name: it begins anew.
    node.machine.nodes = [{ ...seen, uid: 'v', renewedMs: 3 }]
    expect((await ask('q4')).view?.nodes).toMatchObject([{ ready: false }])
  })

  it('is read once for all questions that came meanwhile, and never before any of them', async () => {
    await using node = await ClusterNode.start(keys)
    let reads = 0
    let goOn = () => {}
    node.machine.onStep = async step => {
      if (step !== 'before read') return
      reads += 1
      if (reads === 1) await new Promise<void>(resolve => (goOn = resolve))
    }
    const ask = async (requestId: string) =>
      await node.clusters.answer({ requestId }, new AbortController().signal)
    const first = ask('q1')
    await poll(() => reads).toBe(1)
    const others = [ask('q2'), ask('q3'), ask('q4')]
    // Whoever gives up keeps nobody else from an answer.
    const given = new AbortController()
    const givenUp = node.clusters.answer({ requestId: 'q5' }, given.signal)
    given.abort(new Error('enough'))
    await expect(givenUp).rejects.toThrow('enough')
    node.machine.begun = 'o1'
    goOn()
    expect((await Promise.all(others)).map(({ requestId, data }) => [requestId, data.case])).toEqual([
      ['q2', 'unfinished'],
      ['q3', 'unfinished'],
      ['q4', 'unfinished'],
    ])
    expect((await first).requestId).toBe('q1')
    expect(reads).toBe(2)
  })

  it('of a machine without a cluster part names no cluster, and says what lies on its disk', async () => {
    await using node = await ClusterNode.start(keys, 'n1', { openDriver: async () => ({ kind: 'none' }) })
    node.machine.belongs()
    const state = await node.clusters.answer({ requestId: 'q' }, new AbortController().signal)
    expect(state).toMatchObject({ cluster: '', data: { case: 'present' } })
  })
})
