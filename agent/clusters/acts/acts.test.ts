import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
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
  async function withTree(files: Readonly<Record<string, string>>) {
    const folder = await mkdtemp(join(tmpdir(), 'muster-tree-'))
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await writeFile(join(folder, path), text)
    }
    const fetched: string[] = []
    const node = await server({
      fetchTree: async ({ treeDigest }) => {
        fetched.push(treeDigest)
        return { kind: 'ok', folder }
      },
    })
    return {
      ...{ node, fetched },
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
    node.machine.snapshots.push('later')
    await node.give('s3', { case: 'snapshots', value: {} })
    await poll(() => node.inWords('s3')).toBe('done')
    expect(answerOf(node, 's3')).toMatchObject({
      value: { snapshots: [{ name: 'later' }, { name: 'before-upgrade' }] },
    })
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
