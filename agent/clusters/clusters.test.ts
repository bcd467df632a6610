import { beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import { ClusterRole, SecretPurpose } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { sampleFleetId } from '../../shared/revision/testing/sample-fleet.ts'
import { openSecret } from '../../shared/sealing/open-secret.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { GeneratedKey } from '../../shared/x509/machine-key.ts'
import type { NodeReading } from '../drivers/kubernetes/node-reading.ts'
import { done, failed } from '../drivers/result.ts'
import { evidence } from '../drivers/testing/made-up-objects.ts'
import {
  type ClusterKeys,
  ClusterNode,
  clusterRevision,
  idOf,
  makeClusterKeys,
} from './testing/cluster-node.ts'
import { SOMEBODY } from './testing/made-up-driver.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 5 })
const found = { case: 'found', value: {} } as const
const mintFor = (
  host: string,
  key: { publicKeyDer: Uint8Array },
  role: ClusterRole = ClusterRole.WORKER,
  ms = 600_000,
) =>
  ({
    case: 'mint',
    value: { host, role, joinerKey: key.publicKeyDer, lifetime: durationFromMs(ms) },
  }) as const
const deletion = { case: 'deleteSecret', value: {} } as const
const stop = { case: 'stop', value: {} } as const

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

describe('a secret', () => {
  it('goes from minter to joiner, and nobody between can read it', async () => {
    await using server = await ClusterNode.start(keys)
    await using worker = await ClusterNode.start(keys, 'n4')
    server.machine.belongs()
    await server.give('j1', mintFor('n4', keys.n4))
    await poll(() => server.inWords('j1')).toBe('minted')
    const secret = server.sealedOf('j1')
    expect(secret).toBeDefined()
    if (!secret) throw new Error('nothing was minted')
    await worker.give('j1', { case: 'join', value: { secret, serverAddress: '10.91.0.9:6443' } })
    await poll(() => worker.inWords('j1')).toBe('done')
    expect(worker.reportsOf('j1').map(({ result }) => result.case)).toEqual(['received', 'ended'])
    expect(worker.machine.joinedWith).toMatchObject([{ server: '10.91.0.9:6443', role: 'worker' }])
    for (const node of [server, worker]) {
      const kept = await node.everythingKept()
      expect(kept).not.toContain(node.machine.secretText.slice(0, 16))
      expect(kept).not.toContain(Buffer.from(node.machine.secretText).toString('base64').slice(4, 20))
    }
  })

  it('leads a server of k3s to who minted it, and not to another that may take another token', async () => {
    await using server = await ClusterNode.start(keys)
    await using joiner = await ClusterNode.start(keys, 'n2')
    for (const { machine } of [server, joiner]) machine.facts = { ...machine.facts, distribution: 'k3s' }
    server.machine.belongs()
    await server.give('j1', mintFor('n2', keys.n2, ClusterRole.SERVER))
    await poll(() => server.inWords('j1')).toBe('minted')
    const secret = server.sealedOf('j1')
    await joiner.give('j1', {
      case: 'join',
      value: { ...(secret && { secret }), serverAddress: '10.91.0.9:6443' },
    })
    await poll(() => joiner.inWords('j1')).toBe('done')
    expect(joiner.machine.joinedWith).toMatchObject([{ role: 'server', server: '10.91.0.10:6443' }])
  })

  it('is repeated until it is acknowledged, over a restart too, and then kept no longer', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    await server.give('j1', mintFor('n4', keys.n4))
    await poll(() => server.inWords('j1')).toBe('minted')
    await server.stop()
    await server.run()
    const [owed] = server.clusters.reports()
    expect(owed?.report.result.case).toBe('minted')
    await server.clusters.acknowledge({
      $typeName: 'muster.v1.ClusterReportAck',
      operationId: 'j1',
      reportDigest: 'f'.repeat(64),
    })
    expect(server.clusters.reports()).toHaveLength(1)
    await server.clusters.acknowledge({
      $typeName: 'muster.v1.ClusterReportAck',
      operationId: 'j1',
      reportDigest: owed?.digest ?? '',
    })
    expect(server.clusters.reports()).toEqual([])
    expect(server.machine.did).toEqual(['nodes', 'mint j1 n4'])
  })

  it.each([
    [
      'a key that the manifest does not have for the host',
      'n4',
      'stranger',
      ClusterRole.WORKER,
      'failed mint-key',
    ],
    ['another role', 'n4', 'n4', ClusterRole.SERVER, 'failed mint-role'],
    ['a host that it does not name', 'n9', 'stranger', ClusterRole.WORKER, 'failed mint-host'],
  ] as const)('T16: is not minted for %s', async (_name, host, key, role: ClusterRole, words) => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    await server.give('j1', mintFor(host, keys[key], role))
    await poll(() => server.inWords('j1')).toBe(words)
    expect(server.machine.did).toEqual([])
  })

  it('is minted for a server at the address that is configured, or else at the one it has found out itself', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    const mint = mintFor('n2', keys.n2, ClusterRole.SERVER)
    const told = { ...mint, value: { ...mint.value, address: '100.64.0.2' } }
    await server.give('j1', told)
    await poll(() => server.inWords('j1')).toBe('minted')
    server.machine.facts = { ...server.machine.facts, servers: new Map([['n2', undefined]]) }
    await server.give('j2', mint)
    await poll(() => server.inWords('j2')).toBe('failed precondition')
    await server.give('j3', { ...mint, value: { ...mint.value, address: 'n2,n9=https://x' } })
    await poll(() => server.inWords('j3')).toBe('failed precondition')
    await server.give('j4', told)
    await poll(() => server.inWords('j4')).toBe('minted')
    expect(server.machine.mintedFor.map(({ address }) => address)).toEqual(['10.91.0.11', '100.64.0.2'])
    server.machine.takenAddresses.add('100.64.0.2')
    await server.give('j5', told)
    await poll(() => server.inWords('j5')).toBe('failed precondition')
    expect(server.reasonOf('j5')).toBe('address: 100.64.0.2 is the address of another node')
  })

  it('is not minted for a copy of a machine that is a node of the cluster already', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    server.machine.takenMachineIds.add('a'.repeat(32))
    const mint = mintFor('n4', keys.n4)
    await server.give('j1', { ...mint, value: { ...mint.value, machineId: 'a'.repeat(32) } })
    await poll(() => server.inWords('j1')).toBe('failed precondition')
    expect(server.reasonOf('j1')).toBe('machine-id: another node has the same machine id')
    expect(server.machine.did).toEqual([])
    await server.give('j2', { ...mint, value: { ...mint.value, machineId: 'b'.repeat(32) } })
    await poll(() => server.inWords('j2')).toBe('minted')
  })

  it('is minted for a worker by a rule only where the manifest admits such', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    expect(
      await server.clusters.announced(clusterRevision(keys, { number: 6, admitsWorkers: true })),
    ).toBeUndefined()
    await server.give('j1', mintFor('edge-7', keys.stranger))
    await poll(() => server.inWords('j1')).toBe('minted')
    // An older revision does not come back.
    expect(await server.clusters.announced(clusterRevision(keys))).toContain('revision 6 is known here')
  })

  it('is refused by another machine, for another operation, after its time and from who is no server any more', async () => {
    await using server = await ClusterNode.start(keys)
    await using worker = await ClusterNode.start(keys, 'n4')
    await using other = await ClusterNode.start(keys, 'n2')
    server.machine.belongs()
    await server.give('j1', mintFor('n4', keys.n4))
    await poll(() => server.inWords('j1')).toBe('minted')
    const secret = server.sealedOf('j1')
    if (!secret) throw new Error('nothing was minted')
    const join = { case: 'join', value: { secret, serverAddress: '' } } as const
    await other.give('j1', join)
    await poll(() => other.inWords('j1')).toBe('failed secret-role')
    await worker.give('j2', join)
    await poll(() => worker.inWords('j2')).toBe('failed secret-operation')
    await using late = await ClusterNode.start(keys, 'n4')
    late.nowMs += 601_000
    await late.give('j1', join)
    await poll(() => late.inWords('j1')).toBe('failed secret-expired')
    // A newer manifest has the minter as a server no more.
    await using wise = await ClusterNode.start(keys, 'n4')
    const without = clusterRevision(keys, { number: 6, machines: { n2: idOf(keys.n2), n4: idOf(keys.n4) } })
    expect(await wise.clusters.announced(without)).toBeUndefined()
    await wise.give('j1', join)
    await poll(() => wise.inWords('j1')).toBe('failed secret-minter')
    expect([...other.machine.did, ...worker.machine.did, ...late.machine.did, ...wise.machine.did]).toEqual(
      [],
    )
  })

  it.each([
    ['newer than the server that minted', '1.34.3', [], '1.35.4', 'failed skew'],
    [
      'newer than another server that the minter sees',
      '1.35.4',
      [['n2', 'v1.34.3+k3s1']],
      '1.35.4',
      'failed skew',
    ],
    ['no newer than any server', '1.35.4', [['n2', 'v1.35.4']], '1.35.4', 'done'],
    ['of a version that it cannot tell', '1.34.3', [], undefined, 'done'],
  ] as const)(
    'is judged by the joiner, whose Kubernetes is %s',
    async (_, runs, others, installed, words) => {
      await using server = await ClusterNode.start(keys)
      await using worker = await ClusterNode.start(keys, 'n4')
      server.machine.belongs()
      server.machine.runningVersion = runs
      const seen = { uid: 'u', saysReady: true, renewedMs: 1 }
      server.machine.nodes = others.map(([name, kubeletVersion]) => ({ ...seen, name, kubeletVersion }))
      worker.machine.installedVersion = installed
      await server.give('j1', mintFor('n4', keys.n4))
      await poll(() => server.inWords('j1')).toBe('minted')
      const secret = server.sealedOf('j1')
      if (!secret) throw new Error('no secret')
      await worker.give('j1', { case: 'join', value: { secret, serverAddress: '' } })
      await poll(() => worker.inWords('j1')).toBe(words)
      if (words === 'done') return
      expect(worker.reasonOf('j1')).toContain('older than 1.35.4: servers go first')
      expect(worker.machine.did).toEqual([])
    },
  )

  it('that was asked to be deleted is never minted afterwards, whatever comes late', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    await server.give('j1', deletion)
    await poll(() => server.inWords('j1')).toBe('deleted')
    await server.give('j1', mintFor('n4', keys.n4))
    await server.stop()
    await server.run()
    await server.give('j1', mintFor('n4', keys.n4))
    expect(server.inWords('j1')).toBe('deleted')
    expect(server.machine.did.filter(each => each.startsWith('mint'))).toEqual([])
  })

  it('is deleted while it is being minted, and is told to nobody', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    const pause = server.pauseAt('after mint')
    await server.give('j1', mintFor('n4', keys.n4))
    await pause.reached
    expect(server.machine.tokens.size).toBe(1)
    await server.give('j1', deletion)
    pause.goOn()
    await poll(() => server.inWords('j1')).toBe('deleted')
    expect(server.machine.tokens.size).toBe(0)
    expect(server.reportsOf('j1')).toHaveLength(1)
  })

  it('is deleted in the end though the cluster does not answer at first', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    await server.give('j1', mintFor('n4', keys.n4))
    await poll(() => server.inWords('j1')).toBe('minted')
    server.machine.fails.set('list', failed('quorum', 'no majority'))
    await server.give('j1', deletion)
    await poll(() => server.machine.did.filter(each => each === 'list').length).toBeGreaterThan(2)
    expect(server.inWords('j1')).toBeUndefined()
    server.machine.fails.delete('list')
    await poll(() => server.inWords('j1')).toBe('deleted')
  })

  it('whose minter was killed before it knew the id is deleted all the same', async () => {
    await using server = await ClusterNode.start(keys)
    server.machine.belongs()
    const pause = server.pauseAt('after mint')
    await server.give('j1', mintFor('n4', keys.n4))
    await pause.reached
    server.kill()
    await server.run()
    await poll(() => server.inWords('j1')).toBe('minted')
    // Minted anew under the same operation: what nobody can show any more is gone.
    expect(server.machine.tokens.size).toBe(1)
    await server.give('j1', deletion)
    await poll(() => server.inWords('j1')).toBe('deleted')
    expect(server.machine.tokens.size).toBe(0)
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
