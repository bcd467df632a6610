import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { beforeAll, describe, expect, it } from 'vitest'
import { JobsProbeSchema } from '../../shared/gen/muster/v1/probe_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { untilAborted } from '../../shared/lifecycle.ts'
import { durationFromMs } from '../../shared/time.ts'
import { failedAct } from './acts/act.ts'
import type { ClustersDeps } from './clusters.ts'
import {
  type ClusterKeys,
  ClusterNode,
  clusterRevision,
  idOf,
  makeClusterKeys,
  type RevisionChange,
  revisionOf,
} from './testing/cluster-node.ts'

let keys: ClusterKeys
beforeAll(async () => {
  keys = await makeClusterKeys()
})

const job = (name: string) =>
  `apiVersion: batch/v1\nkind: Job\nmetadata: {name: ${name}}\nspec: {template: {spec: {restartPolicy: Never}}}\n`
const GATES = [
  { name: 'backup', path: 'gates/deep/backup.yaml', deadline: durationFromMs(5_000) },
  { name: 'smoke', path: 'gates/smoke.yaml' },
]
const FILES = { 'gates/smoke.yaml': job('ask'), 'gates/deep/backup.yaml': job('look') }
const never = new AbortController().signal

interface Wish {
  readonly files?: Readonly<Record<string, string>>
  readonly revision?: RevisionChange
  readonly host?: 'n1' | 'n4'
  readonly deps?: Partial<ClustersDeps>
}

/** A node of a cluster whose revision 6 names two gates, with the tree of it. */
async function withGates({ files = FILES, revision, host = 'n1', deps }: Wish = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'muster-tree-'))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), text)
  }
  const fetched: string[] = []
  const node = await ClusterNode.start(keys, host, {
    fetchTree: async ({ treeDigest }) => {
      fetched.push(treeDigest)
      return { kind: 'ok', folder }
    },
    ...deps,
  })
  node.machine.belongs()
  const envelope = clusterRevision(keys, { number: 6, gates: GATES, ...revision })
  expect(await node.clusters.announced(envelope)).toBeUndefined()
  const question = {
    cluster: 'home',
    revision: BigInt(revision?.number ?? 6),
    manifestDigest: sha256Hex(envelope.payload),
  }
  const ask = async (change: Partial<typeof question> = {}, signal: AbortSignal = never) =>
    await node.clusters.runJobs(create(JobsProbeSchema, { ...question, ...change }), signal)
  return {
    node,
    folder,
    fetched,
    ask,
    async [Symbol.asyncDispose]() {
      await node[Symbol.asyncDispose]()
      await rm(folder, { recursive: true })
    },
  }
}

describe('the Jobs that are gates', () => {
  it('are those of the signed manifest, out of its tree, run at once and answered by name', async () => {
    await using made = await withGates()
    const { node, fetched, ask } = made
    const jobs: unknown[] = []
    let others = () => {}
    const both = new Promise<void>(resolve => {
      others = resolve
    })
    // The first is over only when the second has begun.
    node.machine.gateJobs.set('backup', async object => {
      jobs.push(object)
      await both
      return { verdict: 'unhealthy', reason: 'no backup' }
    })
    node.machine.gateJobs.set('smoke', async object => {
      jobs.push(object)
      others()
      return { verdict: 'healthy', reason: 'completed' }
    })
    expect(await ask()).toEqual([
      { name: 'backup', verdict: 'unhealthy', reason: 'no backup' },
      { name: 'smoke', verdict: 'healthy', reason: 'completed' },
    ])
    expect(fetched).toEqual(['d'.repeat(64)])
    expect(jobs).toMatchObject([{ metadata: { name: 'look' } }, { metadata: { name: 'ask' } }])
    // Each with its own deadline.
    expect(node.machine.did).toEqual(['gate backup 5000', 'gate smoke 120000'])
  })

  it('are none where the manifest names none: no tree is fetched for that', async () => {
    await using made = await withGates({ revision: { gates: [] } })
    expect(await made.ask()).toEqual([])
    expect(made.fetched).toEqual([])
  })

  it('are run on a server that the manifest binds to no key, by its name', async () => {
    await using made = await withGates({ revision: { machines: { n1: '', n2: idOf(keys.n2) } } })
    expect(await made.ask()).toHaveLength(2)
  })

  it('whose file is missing, is no Job or is no file are unavailable; the others are run', async () => {
    await using made = await withGates({ files: { 'gates/smoke.yaml': job('ask') } })
    const { ask, folder, node } = made
    const path = 'gates/deep/backup.yaml'
    const backup = async () => {
      const [first, second] = await ask()
      expect(second).toMatchObject({ name: 'smoke', verdict: 'healthy' })
      expect(first).toMatchObject({ name: 'backup', verdict: 'unavailable' })
      return first?.reason
    }
    expect(await backup()).toBe(`${path}: is not in the fleet directory of this revision`)
    await mkdir(join(folder, path), { recursive: true })
    expect(await backup()).toBe(`${path}: is no file of the fleet directory`)
    await rm(join(folder, path), { recursive: true })
    await writeFile(join(folder, path), job('look').replace('kind: Job', 'kind: Secret'))
    expect(await backup()).toMatch(/^gates\/deep\/backup\.yaml, line 1: .*batch\/v1 and Job, not .*"Secret"/)
    await writeFile(join(folder, path), `${job('look')}#${'x'.repeat(256 * 1024)}`)
    expect(await backup()).toBe(`${path}: longer than 262144 bytes`)
    await rm(join(folder, path))
    await symlink('../smoke.yaml', join(folder, path))
    expect(await backup()).toMatch(/is a link or behind one/)
    await rm(join(folder, 'gates/deep'), { recursive: true })
    await mkdir(join(folder, 'elsewhere'))
    await writeFile(join(folder, 'elsewhere/backup.yaml'), job('look'))
    await symlink('../elsewhere', join(folder, 'gates/deep'))
    expect(await backup()).toMatch(/is a link or behind one/)
    expect(new Set(node.machine.did)).toEqual(new Set(['gate smoke 120000']))
  })

  it('one of which breaks leave the others their answers', async () => {
    await using made = await withGates()
    made.node.machine.gateJobs.set('backup', async () => {
      throw new Error('a bug of\u0007ours')
    })
    expect(await made.ask()).toEqual([
      { name: 'backup', verdict: 'unavailable', reason: 'could not be asked: a bug of\\u0007ours' },
      { name: 'smoke', verdict: 'healthy', reason: 'completed' },
    ])
  })
})

describe('no Job is run', () => {
  const refused = async (made: Awaited<ReturnType<typeof withGates>>, reason: RegExp, change = {}) => {
    await expect(made.ask(change)).rejects.toThrow(reason)
    expect(made.node.machine.did).toEqual([])
    await made[Symbol.asyncDispose]()
  }

  it('where the owner did not allow to order manifests', async () => {
    const allow = ['drain', 'snapshot', 'leave', 'restore', 'rotate', 'kubeconfig', 'wipe', 'logs']
    await refused(await withGates({ deps: { allow } }), /option `allow` of its configuration has no "join"/)
    await refused(await withGates({ deps: { held: () => 'it is held' } }), /runs no Job: it is held/)
  })

  it('by a worker, of another cluster, or on data that is not ours', async () => {
    await refused(await withGates({ host: 'n4' }), /is a worker: only a server/)
    const elsewhere = await withGates()
    elsewhere.node.machine.facts = { ...elsewhere.node.machine.facts, cluster: 'other' }
    await refused(elsewhere, /is a server of other, not of home/)
    const foreign = await withGates()
    foreign.node.machine.adopted = undefined
    await refused(foreign, /was not made by us: adopt that cluster first/)
    const none = await withGates({ deps: { openDriver: async () => ({ kind: 'none' }) } })
    await refused(none, /has no part in any cluster/)
  })

  it('that no signed manifest names, under another digest or number or for another cluster', async () => {
    await refused(await withGates(), /no signed manifest to judge by: /, { manifestDigest: 'f'.repeat(64) })
    await refused(await withGates(), /no signed manifest to judge by: /, { manifestDigest: '' })
    const other = revisionOf({ number: 7, machines: {} })
    const getRevision = async () => ({ envelope: other })
    const strange = await withGates({ deps: { getRevision } })
    await refused(strange, /the order names another one/, { manifestDigest: 'f'.repeat(64) })
    const unnamed = await withGates()
    unnamed.node.machine.facts = { ...unnamed.node.machine.facts, cluster: 'other' }
    await refused(unnamed, /revision 6 names no cluster other/, { cluster: 'other' })
  })

  it('by a machine that the signed manifest has as no server of the cluster', async () => {
    const { n1, n2, stranger } = keys
    for (const machines of [
      { n4: idOf(n1), n2: idOf(n2) },
      { n2: idOf(n2) },
      { n1: idOf(stranger), n2: idOf(n2) },
    ])
      await refused(await withGates({ revision: { machines } }), /is no server of home by revision 6/)
  })

  it('without the tree of the revision', async () => {
    const fetchTree = async () => failedAct('tree', 'another digest')
    await refused(await withGates({ deps: { fetchTree } }), /^tree: another digest$/)
  })
})

describe('an asking', () => {
  it('is refused while another one runs, and taken when that one is over', async () => {
    await using made = await withGates()
    const { node, ask } = made
    let goOn = () => {}
    const free = new Promise<void>(resolve => {
      goOn = resolve
    })
    node.machine.gateJobs.set('smoke', async () => {
      await free
      return { verdict: 'healthy', reason: 'completed' }
    })
    const first = ask()
    await expect(ask()).rejects.toThrow(/being run here for another question/)
    goOn()
    expect(await first).toHaveLength(2)
    expect(await ask()).toHaveLength(2)
  })

  it('waits for one that was given up until it has tidied up; but one waits, not two', async () => {
    await using made = await withGates()
    const { node, ask } = made
    const controller = new AbortController()
    const order: string[] = []
    let tidy = () => {}
    const tidied = new Promise<void>(resolve => {
      tidy = resolve
    })
    node.machine.gateJobs.set('smoke', async (_, signal) => {
      if (order.length > 0) return { verdict: 'healthy', reason: 'asked anew' }
      order.push('began')
      await untilAborted(signal ?? never)
      order.push('was given up')
      await tidied
      order.push('is tidy')
      return { verdict: 'unavailable', reason: 'no longer asked for' }
    })
    const first = ask({}, controller.signal)
    await expect.poll(() => order).toEqual(['began'])
    controller.abort()
    await expect.poll(() => order).toEqual(['began', 'was given up'])
    const others = Promise.allSettled([ask(), ask()])
    expect(node.machine.did.filter(each => each.startsWith('gate smoke'))).toHaveLength(1)
    tidy()
    await first
    const [second, third] = await others
    expect(second).toMatchObject({ status: 'fulfilled', value: [{}, { reason: 'asked anew' }] })
    expect(third).toMatchObject({ status: 'rejected' })
    expect(order.at(-1)).toBe('is tidy')
  })

  it('ends with the agent, which waits until its Jobs are taken away', async () => {
    await using made = await withGates()
    const { node, ask } = made
    let isTidy = false
    let begun = false
    node.machine.gateJobs.set('smoke', async (_, signal) => {
      begun = true
      await untilAborted(signal ?? never)
      await new Promise(resolve => setTimeout(resolve, 20))
      isTidy = true
      return { verdict: 'unavailable', reason: 'no longer asked for' }
    })
    const asking = ask()
    await expect.poll(() => begun).toBe(true)
    await node.stop()
    expect(isTidy).toBe(true)
    await asking
    await expect(ask()).rejects.toThrow('no longer asked')
  })
})

it('trees are fetched one after the other, whoever asks for them', async () => {
  let running = 0
  let most = 0
  const folder = await mkdtemp(join(tmpdir(), 'muster-tree-'))
  const fetchTree = async () => {
    running += 1
    most = Math.max(most, running)
    await new Promise(resolve => setTimeout(resolve, 20))
    running -= 1
    return { kind: 'ok', folder } as const
  }
  await using made = await withGates({ deps: { fetchTree } })
  const { node, ask } = made
  const envelope = clusterRevision(keys, { number: 6, gates: GATES })
  const value = { revision: 6n, manifestDigest: sha256Hex(envelope.payload), allowEmpty: true }
  await node.give('m1', { case: 'manifests', value })
  await ask()
  await expect.poll(() => node.inWords('m1')).toBe('done')
  expect(most).toBe(1)
  await rm(folder, { recursive: true })
})
