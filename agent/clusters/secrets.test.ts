import { beforeAll, describe, expect, it } from 'vitest'
import { ClusterRole } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { failed } from '../drivers/result.ts'
import {
  type ClusterKeys,
  ClusterNode,
  clusterRevision,
  idOf,
  makeClusterKeys,
} from './testing/cluster-node.ts'

import { deletion, mintFor, poll } from './testing/sample-orders.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
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
