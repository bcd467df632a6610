import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey, type SigningKeyPair } from '../../../shared/envelope/keys.ts'
import { ClusterRole, type ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { sha256Hex } from '../../../shared/ids.ts'
import { durationFromMs } from '../../../shared/time.ts'
import type { ClustersDeps } from '../clusters.ts'
import {
  type ClusterKeys,
  ClusterNode,
  clusterRevision,
  idOf,
  makeClusterKeys,
} from '../testing/cluster-node.ts'
import { failedAct } from './act.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const poll = (look: () => unknown) => expect.poll(look, { timeout: 5_000, interval: 5 })

async function server(deps: Partial<ClustersDeps> = {}): Promise<ClusterNode> {
  const node = await ClusterNode.start(keys, 'n1', deps)
  node.machine.belongs()
  return node
}

function answerOf(node: ClusterNode, operation: string): ClusterStepEnded['value'] | undefined {
  const ended = node.reportsOf(operation).find(({ result }) => result.case === 'ended')?.result
  return ended?.case === 'ended' ? ended.value.value : undefined
}

describe('manifests', () => {
  const bring = (
    envelope: Envelope,
    change: { readonly allowEmpty?: boolean; readonly digest?: string } = {},
  ) => {
    const manifestDigest = change.digest ?? sha256Hex(envelope.payload)
    return {
      case: 'manifests',
      value: { revision: 5n, manifestDigest, allowEmpty: change.allowEmpty ?? false },
    } as const
  }

  /** A server whose tree has these files; what it was asked to fetch is noted. */
  async function withTree(
    files: Readonly<Record<string, string>>,
    links: Readonly<Record<string, string>> = {},
  ) {
    const folder = await mkdtemp(join(tmpdir(), 'muster-tree-'))
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await writeFile(join(folder, path), text)
    }
    for (const [path, target] of Object.entries(links)) {
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await symlink(target, join(folder, path))
    }
    const fetched: string[] = []
    const node = await server({
      fetchTree: async ({ treeDigest }) => {
        fetched.push(treeDigest)
        return { kind: 'ok', folder }
      },
    })
    return {
      node,
      fetched,
      async [Symbol.asyncDispose]() {
        await node[Symbol.asyncDispose]()
        await rm(folder, { recursive: true })
      },
    }
  }

  const map = (name: string) => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\n`

  it('of a cluster are the files of its folder in the signed tree, and of no other', async () => {
    await using made = await withTree({
      'manifests/home/a.yaml': `${map('one')}---\n${map('two')}`,
      'manifests/home/deeper/b.json': '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"three"}}',
      'manifests/home/README.md': 'not one of them',
      'manifests/other/c.yaml': map('four'),
    })
    const { node, fetched } = made
    const envelope = clusterRevision(keys)
    await node.give('m1', bring(envelope))
    await poll(() => node.inWords('m1')).toBe('done')
    expect(fetched).toEqual(['d'.repeat(64)])
    expect(node.machine.applied).toMatchObject([
      { metadata: { name: 'one' } },
      { metadata: { name: 'two' } },
      { metadata: { name: 'three' } },
    ])
    expect(answerOf(node, 'm1')).toEqual({ case: 'text', value: 'applied 3' })
  })

  it('are refused of a revision under another digest, and none at all only where that is meant', async () => {
    await using made = await withTree({ 'manifests/other/c.yaml': map('four') })
    const { node } = made
    const envelope = clusterRevision(keys)
    await node.give('m1', bring(envelope, { digest: 'f'.repeat(64) }))
    await poll(() => node.inWords('m1')).toBe('failed manifest')
    await node.give('m2', bring(envelope))
    await poll(() => node.inWords('m2')).toBe('failed precondition')
    await node.give('m3', bring(envelope, { allowEmpty: true }))
    await poll(() => node.inWords('m3')).toBe('done')
  })

  it.each([
    ['manifests/home/shared.yaml', '../../common/shared.yaml'],
    ['manifests/home/net', '../../common'],
    ['manifests/home', '../common'],
    ['manifests', 'elsewhere'],
  ])('that are a link are refused with its path, and nothing is pruned for it: %s', async (path, target) => {
    const files = path.startsWith('manifests/home/') ? { 'manifests/home/own.yaml': map('own') } : {}
    await using made = await withTree(
      { ...files, 'common/shared.yaml': map('shared'), 'elsewhere/home/a.yaml': map('far') },
      { [path]: target },
    )
    await made.node.give('m1', bring(clusterRevision(keys), { allowEmpty: true }))
    await poll(() => made.node.inWords('m1')).toBe('failed precondition')
    expect(made.node.reasonOf('m1')).toContain(`${path}: is a link`)
    expect(made.node.machine.applied).toEqual([])
  })

  it('that cannot be read are refused with their file, and a tree that does not come with its reason', async () => {
    await using made = await withTree({ 'manifests/home/bad.yaml': 'a: [' })
    const envelope = clusterRevision(keys)
    await made.node.give('m1', bring(envelope))
    await poll(() => made.node.inWords('m1')).toMatch(/^failed/)
    expect(made.node.reasonOf('m1')).toContain('bad.yaml')
    await using without = await server({ fetchTree: async () => failedAct('tree', 'another digest') })
    await without.give('m1', bring(envelope))
    await poll(() => without.inWords('m1')).toBe('failed tree')
  })
})

describe('the datastore', () => {
  it('is copied under a name, and its copies are listed newest first', async () => {
    await using node = await server()
    for (const [operation, name] of [
      ['s1', 'before-upgrade'],
      ['s2', '../etc'],
    ] as const)
      await node.give(operation, { case: 'snapshot', value: { name } })
    await poll(() => node.inWords('s1')).toBe('done')
    await poll(() => node.inWords('s2')).toBe('failed precondition')
    expect(answerOf(node, 's1')).toMatchObject({
      value: { snapshots: [{ name: 'before-upgrade', bytes: 5n }] },
    })
    // It would stay as it is, and be taken for the new one.
    await node.give('s1-again', { case: 'snapshot', value: { name: 'before-upgrade' } })
    await poll(() => node.inWords('s1-again')).toBe('failed precondition')
    node.machine.snapshots.push('later')
    await node.give('s3', { case: 'snapshots', value: {} })
    await poll(() => node.inWords('s3')).toBe('done')
    expect(answerOf(node, 's3')).toMatchObject({
      value: { snapshots: [{ name: 'later' }, { name: 'before-upgrade' }] },
    })
  })

  it('leaves copies behind when its server leaves, which are named, and none when it is wiped', async () => {
    await using node = await server()
    const own = { node: 'n1', machine: idOf(keys.n1) }
    const leave = async (operation: string) => {
      const signedOrder = node.signed({ act: 'leave', ...own })
      await node.give(operation, { case: 'leave', value: { node: 'n1', signedOrder } })
      await poll(() => node.inWords(operation)).toBe('done')
    }
    const wipe = async (operation: string) => {
      const signedOrder = node.signed({ act: 'wipe', ...own })
      await node.give(operation, { case: 'wipe', value: { signedOrder } })
      await poll(() => node.inWords(operation)).toBe('done')
    }
    node.machine.snapshots.push(...['a', 'b', 'c', 'd', 'e', 'f'])
    await leave('l1')
    expect(answerOf(node, 'l1')).toEqual({
      case: 'text',
      value: expect.stringMatching(
        /^copies of the datastore \(f, e, d, c, b and 1 more\) stay on n1, .*--wipe/,
      ),
    })
    expect(node.machine.snapshots).toHaveLength(6)
    // All else went with the leave.
    await wipe('w1')
    expect(node.machine.snapshots).toEqual([])
    node.machine.belongs()
    await leave('l2')
    expect(answerOf(node, 'l2')?.case).toBeUndefined()
    node.machine.belongs()
    node.machine.snapshots.push('later')
    await wipe('w2')
    expect(node.machine.snapshots).toEqual([])
    expect(node.machine.data).toEqual({ kind: 'none' })
  })

  it('is rotated as it was signed for, and told what else is to be done', async () => {
    await using node = await server()
    const own = { node: 'n1', machine: idOf(keys.n1) }
    const rotate = (what: string, signedOrder: Envelope) =>
      ({ case: 'rotate', value: { what, signedOrder } }) as const
    const tokens = node.signed({ act: 'rotate', parameter: 'tokens' })
    await node.give('r1', rotate('certificates', tokens))
    await poll(() => node.inWords('r1')).toBe('failed order-parameter')
    await node.give('r2', rotate('tokens', tokens))
    await poll(() => node.inWords('r2')).toBe('done')
    expect(answerOf(node, 'r2')).toEqual({ case: 'text', value: 'restart every server' })
    await node.give(
      'r3',
      rotate('certificates', node.signed({ act: 'rotate', parameter: 'certificates', ...own })),
    )
    await poll(() => node.inWords('r3')).toBe('done')
    expect(node.machine.did).toEqual(['rotate-tokens', 'whyNotStop', 'rotate-certificates'])
  })
})

describe('a worker whose certificates are to be made anew', () => {
  const rotate = (node: ClusterNode, what: 'certificates' | 'tokens') => {
    const about = what === 'tokens' ? {} : { node: 'n4', machine: idOf(keys.n4) }
    const signedOrder = node.signed({ act: 'rotate', parameter: what, ...about })
    return { case: 'rotate', value: { what, signedOrder } } as const
  }

  it('restarts where only a start fetches them, asked by an operator and no more than any node that is not ours', async () => {
    await using node = await ClusterNode.start(keys, 'n4')
    node.machine.fetches = true
    node.machine.data = { kind: 'cluster', distribution: 'k3s', server: false, authority: 'f'.repeat(64) }
    await node.give('r1', { case: 'rotate', value: { what: 'certificates' } })
    await poll(() => node.inWords('r1')).toMatch(/^failed order-/)
    await node.give('r2', rotate(node, 'certificates'))
    await poll(() => node.inWords('r2')).toMatch(/^failed/)
    expect(node.machine.did).toEqual([])
    node.machine.belongs()
    await node.give('r3', rotate(node, 'certificates'))
    await poll(() => node.inWords('r3')).toBe('done')
    await node.give('r4', rotate(node, 'tokens'))
    await poll(() => node.inWords('r4')).toBe('failed unsupported')
    expect(node.machine.did).toEqual(['renew-by-restart'])
  })

  it('is left alone where its kubelet renews them', async () => {
    await using node = await ClusterNode.start(keys, 'n4')
    node.machine.belongs()
    await node.give('r1', rotate(node, 'certificates'))
    await poll(() => node.inWords('r1')).toBe('failed unsupported')
    expect(node.machine.did).toEqual([])
  })
})

it('R6: tells when certificates end on any node, and does on a worker nothing that only a server can', async () => {
  await using node = await ClusterNode.start(keys, 'n4')
  node.machine.belongs()
  await node.give('c1', { case: 'certificates', value: {} })
  await poll(() => node.inWords('c1')).toBe('done')
  expect(answerOf(node, 'c1')).toMatchObject({
    value: { certificates: [{ path: '/pki/ca.crt', authority: true }] },
  })
  await node.give('s1', { case: 'snapshot', value: { name: 'a' } })
  await poll(() => node.inWords('s1')).toBe('failed precondition')
  await node.give('d1', { case: 'drain', value: { node: 'n4' } })
  await poll(() => node.inWords('d1')).toBe('failed precondition')
  const minted = { host: 'n4', role: ClusterRole.WORKER, joinerKey: keys.n4.publicKeyDer }
  await node.give('m1', { case: 'mint', value: { ...minted, lifetime: durationFromMs(600_000) } })
  await poll(() => node.inWords('m1')).toMatch(/^failed/)
  expect(node.machine.did).toEqual(['certificates'])
})

describe('a server without its datastore', () => {
  const lost = { authority: 'c'.repeat(64), path: '/var/lib/etcd/member' }

  it('neither leaves by itself nor takes anybody in or out, and names what mends it', async () => {
    await using node = await server()
    node.machine.lost = lost
    const own = { node: 'n1', machine: idOf(node.key) }
    await node.give('l1', {
      case: 'leave',
      value: { node: 'n1', signedOrder: node.signed({ act: 'leave', ...own }) },
    })
    await poll(() => node.inWords('l1')).toBe('failed lost-datastore')
    expect(node.reasonOf('l1')).toContain('muster leave HOST --dead')
    await node.give('d1', { case: 'drain', value: { node: 'n4', limit: durationFromMs(1_000) } })
    await poll(() => node.inWords('d1')).toBe('failed lost-datastore')
    expect(node.machine.did).toEqual([])
  })

  it('is not founded over, also where nothing of the cluster is left beside', async () => {
    await using node = await ClusterNode.start(keys)
    node.machine.lost = lost
    await node.give('f1', { case: 'found', value: {} })
    await poll(() => node.inWords('f1')).toBe('failed lost-datastore')
    expect(node.machine.did).toEqual([])
  })

  it('is wiped by an operator’s order, which says whether copies of the datastore stay', async () => {
    await using node = await server()
    const own = { node: 'n1', machine: idOf(node.key) }
    const wipe = (keepSnapshots: boolean, parameter: string) =>
      ({
        case: 'wipe',
        value: { keepSnapshots, signedOrder: node.signed({ act: 'wipe', ...own, parameter }) },
      }) as const
    node.machine.lost = lost
    node.machine.snapshots.push('before')
    // The coordinator cannot turn the one into the other.
    await node.give('w1', wipe(false, 'keep-snapshots'))
    await node.give('w2', wipe(true, ''))
    await poll(() => [node.inWords('w1'), node.inWords('w2')]).toEqual([
      'failed order-parameter',
      'failed order-parameter',
    ])
    expect(node.machine.did).toEqual([])
    await node.give('w3', wipe(true, 'keep-snapshots'))
    await poll(() => node.inWords('w3')).toBe('done')
    expect(node.machine.did).toEqual(['wipe'])
    expect(answerOf(node, 'w3')).toMatchObject({ value: expect.stringContaining('(before) stay on n1') })
    node.machine.data = { kind: 'none' }
    node.machine.lost = lost
    await node.give('w4', wipe(false, ''))
    await poll(() => node.inWords('w4')).toBe('done')
    expect(node.machine.did).toEqual(['wipe', 'wipe', 'drop-snapshots'])
  })
})

describe('a server that came back with what there was before a restore', () => {
  it('stands down by the order that an operator gave another machine, whose time may be over', async () => {
    await using node = await server()
    const createdMs = node.nowMs - 30 * 86_400_000
    const times = { createdMs, expiresMs: createdMs + 3_600_000 }
    const order = {
      act: 'restore',
      node: 'n2',
      machine: idOf(keys.n2),
      parameter: 'before',
      ...times,
    } as const
    await node.give('s1', { case: 'standDown', value: { restore: node.signed(order) } })
    await poll(() => node.inWords('s1')).toBe('done')
    expect(node.machine.did).toEqual([`stand-down ${createdMs}`])
  })

  it('does not by one that nobody signed, that is about another cluster or act, or made itself the only server', async () => {
    await using node = await server()
    const give = async (id: string, change: Parameters<ClusterNode['signed']>[0], key?: SigningKeyPair) => {
      await node.give(id, { case: 'standDown', value: { restore: node.signed(change, key) } })
      await poll(() => node.inWords(id)).toMatch(/^failed order-/)
    }
    const order = { act: 'restore', node: 'n2', machine: idOf(keys.n2), parameter: 'before' } as const
    await give('s1', order, generateSigningKey())
    await give('s2', { ...order, cluster: 'other' })
    await give('s3', { ...order, node: 'n1', machine: idOf(keys.n1) })
    await give('s4', { ...order, node: '', machine: '' })
    await give('s5', { act: 'wipe', node: 'n2', machine: idOf(keys.n2) })
    await node.give('s6', { case: 'standDown', value: {} })
    await poll(() => node.inWords('s6')).toBe('failed order-signature')
    expect(node.machine.did).toEqual([])
  })
})
