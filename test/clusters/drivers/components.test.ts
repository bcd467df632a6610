import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Joined, ListedToken, Minted, Snapshot } from '../../../agent/drivers/driver.ts'
import type { SeenMember } from '../../../agent/drivers/etcd/member.ts'
import { readJoinSecret, writeJoinSecret } from '../../../agent/drivers/join-secret.ts'
import type { NodeEvidence } from '../../../agent/drivers/kubernetes/read-evidence.ts'
import { webDeployment } from '../../lab/clusters/objects.ts'
import { whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { type DriverLab, type Host, startDriverLab } from './driver-lab.ts'

const why = whyNoClusters()
const VERSION = '1.34.3'
const WAIT = { deadlineMs: 240_000 }
/** An API server with clients takes a minute to stop. */
const STOPPING_MS = 4 * 60_000
const STRICT = { deleteEmptyDir: true, deleteUnmanaged: false }

let made: DriverLab
let authority = ''

beforeAll(async () => {
  if (why === undefined) made = await startDriverLab('components', ['n1', 'n2', 'n3', 'n4'], VERSION)
}, SET_UP_MS)
afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

/** Has a server mint a secret for a host; answers it as text, with the id of its token. */
async function mint(from: Host, node: Host, role: 'server' | 'worker', operation: string) {
  const request = {
    operation,
    node,
    role,
    address: made.address(node),
    machineId: undefined,
    lifetimeMs: 600_000,
  }
  return await made.done<Omit<Minted, 'secret'> & { readonly secret: string }>(from, 'mint', request)
}

async function join(node: Host, role: 'server' | 'worker', operation: string): Promise<void> {
  const { secret, tokenId } = await mint('n1', node, role, operation)
  expect(await made.done<Joined>(node, 'join', operation, secret, WAIT)).toEqual({ authority })
  await made.done('n1', 'deleteToken', tokenId)
  const left = await made.done<readonly ListedToken[]>('n1', 'listTokens')
  expect(left).toEqual([])
}

const voters = async (from: Host) =>
  (await made.done<readonly SeenMember[]>(from, 'members'))
    .filter(({ learner, healthy }) => !learner && healthy)
    .map(({ name }) => name)
    .toSorted()

describe.skipIf(why !== undefined)(`the driver of bare components ${why ?? ''}`, () => {
  it('finds nothing missing on a machine that was made for it', async () => {
    expect(await made.drive('n1', 'checkPreconditions')).toEqual([])
  })

  it('founds a first server once, and founds it again without a change', async () => {
    ;({ authority } = await made.done<Joined>('n1', 'found', 'op-found', WAIT))
    expect(authority).toMatch(/^[0-9a-f]{64}$/)
    expect(await made.done('n1', 'proveServer', VERSION, WAIT)).toMatchObject({ version: VERSION })
    expect(await made.answer('n1', 'found', 'op-again', WAIT)).toMatchObject({
      kind: 'failed',
      class: 'data-present',
    })
    expect(await made.drive('n1', 'readState')).toMatchObject({
      data: { kind: 'cluster', server: true, authority },
      installedVersion: VERSION,
      runningVersion: VERSION,
    })
    const { code } = await made.machine('n1').exec(['test', '-e', '/var/lib/kubernetes/super-admin.conf'])
    expect(code).toBe(1)
  })

  it('refuses what another cluster minted: its token, and its authority', async () => {
    const { secret, tokenId } = await mint('n1', 'n4', 'worker', 'op-foreign')
    await made.done('n1', 'deleteToken', tokenId)
    const own = readJoinSecret(secret)
    if (!own) throw new Error('no secret')
    const foreign = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=kubernetes']
    const authorityOfOther = await made
      .machine('n4')
      .ok(['openssl', 'req', ...foreign, '-keyout', '/dev/null'], { timeoutMs: 60_000 })
    for (const [operation, change] of [
      ['op-token', { token: 'foreig.0123456789abcdef' }],
      ['op-authority', { files: new Map([['ca.crt', authorityOfOther]]) }],
    ] as const) {
      const text = writeJoinSecret({ ...own, ...change })
      expect(await made.answer('n4', 'join', operation, text, WAIT)).toMatchObject({ class: 'token-refused' })
      await made.done('n4', 'wipe')
    }
    expect(await made.done('n1', 'nodes')).toEqual([])
  })

  it('joins a worker with a token that is gone afterwards, on the server and on the node', async () => {
    await join('n4', 'worker', 'op-n4')
    await made.done<NodeEvidence>('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
    const left = await made.machine('n4').readFile('/run/muster-cluster/bootstrap-kubelet.conf')
    expect(left).toContain('spent0.0000000000000000')
  })

  it('T39: joins a second server as a learner that is given its vote, and counts voters alone', async () => {
    const { tokenId } = await mint('n1', 'n3', 'server', 'op-never')
    expect(tokenId).toMatch(/^member-[0-9a-f]+$/)
    expect(await voters('n1')).toEqual(['n1'])
    const refused = await made.answer('n1', 'mint', {
      operation: 'op-n2',
      node: 'n2',
      role: 'server',
      address: made.address('n2'),
      lifetimeMs: 600_000,
    })
    expect(refused).toMatchObject({ kind: 'failed', class: 'quorum' })
    await made.done('n1', 'deleteToken', tokenId)
    await join('n2', 'server', 'op-n2')
    expect(await voters('n2')).toEqual(['n1', 'n2'])
    expect(await made.done('n1', 'whyNotStop')).toContain('voters would answer without it')
  })

  it('names what stands in the way of a machine that joins under a name that is taken', async () => {
    const joiner = { node: 'n4', role: 'worker', address: made.address('n4') }
    expect(await made.done('n1', 'checkJoiner', joiner)).toMatchObject([{ what: 'host-name' }])
    const server = { node: 'n9', role: 'server', address: made.address('n2') }
    expect(await made.done('n1', 'checkJoiner', server)).toMatchObject([{ what: 'data' }])
  })

  it('T37: drains by counting pods, names what is in the way, and lifts its own cordon alone', async () => {
    await made.apply('n1', webDeployment('web'))
    await made.kubectl('n1', 'rollout', 'status', 'deployment/web', '--timeout=90s')
    const budget = { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name: 'web' } }
    const spec = { minAvailable: 1, selector: { matchLabels: { app: 'web' } } }
    await made.apply('n1', { ...budget, spec })
    expect(await made.answer('n1', 'drain', 'n4', STRICT, WAIT)).toMatchObject({ class: 'precondition' })
    expect(await made.done('n1', 'cordon', 'n4', 'op-drain')).toEqual({ by: 'op-drain' })
    const blocked = await made.answer('n1', 'drain', 'n4', STRICT, { deadlineMs: 8_000 })
    expect(blocked).toMatchObject({ kind: 'failed', class: 'blocked' })
    expect(blocked).toMatchObject({
      reason: expect.stringMatching(/pod default\/web-\S+: .*disruption budget/),
    })
    await made.kubectl('n1', 'delete', 'pdb', 'web')
    expect(await made.done('n1', 'drain', 'n4', STRICT, WAIT)).toEqual({ evicted: 1 })
    expect(await made.answer('n1', 'uncordon', 'n4', 'op-other')).toMatchObject({ class: 'not-ours' })
    await made.done('n1', 'uncordon', 'n4', 'op-drain')
    await made.kubectl('n1', 'cordon', 'n4')
    expect(await made.done('n1', 'cordon', 'n4', 'op-more')).toEqual({})
    expect(await made.answer('n1', 'uncordon', 'n4', 'op-more')).toMatchObject({ class: 'not-ours' })
    await made.kubectl('n1', 'uncordon', 'n4')
  })

  it('T40: takes no Ready of before for one of after, and none of a kubelet that is down', async () => {
    const before = await made.done<NodeEvidence>('n1', 'readEvidence', 'n4')
    await made.machine('n4').ok(['systemctl', 'stop', 'kubelet'])
    const proof = { node: 'n4', version: VERSION, before }
    const early = await made.answer('n1', 'proveNode', proof, { deadlineMs: 15_000 })
    expect(early).toMatchObject({
      class: 'not-ready',
      reason: expect.stringContaining('has not renewed its lease'),
    })
    await made.machine('n4').ok(['systemctl', 'start', 'kubelet'])
    await made.done('n1', 'proveNode', proof, WAIT)
  })

  it('T49: prunes what it brought and nothing else', async () => {
    const map = (name: string) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace: 'app' },
    })
    const space = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'app' } }
    const set = (objects: readonly object[], allowEmpty = false) => ({ name: 'lab', objects, allowEmpty })
    const first = await made.done('n1', 'applyManifests', set([map('a'), map('b'), map('c'), space]))
    expect(first).toEqual({ applied: 4, pruned: [], kept: [] })
    await made.kubectl('n1', '-n', 'app', 'delete', 'configmap', 'c')
    await made.apply('n1', map('c'))
    await made.apply('n1', map('d'))
    expect(await made.done('n1', 'applyManifests', set([map('a')]))).toEqual({
      applied: 1,
      pruned: ['ConfigMap app/b'],
      kept: [
        expect.stringMatching(/^ConfigMap app\/c: somebody made it anew/),
        expect.stringMatching(/^Namespace app: /),
      ],
    })
    expect(await made.answer('n1', 'applyManifests', set([]))).toMatchObject({ class: 'precondition' })
    await made.done('n1', 'applyManifests', set([], true))
    const names = await made.kubectl('n1', '-n', 'app', 'get', 'configmaps', '-o', 'name')
    expect(names.split('\n').filter(name => name !== 'configmap/kube-root-ca.crt')).toEqual([
      'configmap/c',
      'configmap/d',
      '',
    ])
  })

  it('gives a kubeconfig that works, and tells when certificates end', async () => {
    const text = await made.done<string>('n1', 'kubeconfig', `${made.address('n2')}:6443`)
    await made.machine('n4').writeFile('/root/admin.conf', text, '600')
    const asked = [
      '/opt/kubernetes/1.34.3/kubectl',
      '--kubeconfig=/root/admin.conf',
      'get',
      '--raw',
      '/readyz',
    ]
    expect(await made.machine('n4').ok(asked)).toBe('ok')
    const ends = await made.done<readonly { path: string; endsMs: number }[]>('n1', 'certificates')
    expect(ends.map(({ path }) => path)).toContain('/var/lib/kubernetes/pki/apiserver.crt')
    expect(ends[0]?.endsMs).toBeGreaterThan(Date.now() + 300 * 24 * 3_600_000)
  })

  it('makes a server’s certificates anew', async () => {
    const serial = async () =>
      await made
        .machine('n2')
        .ok(['openssl', 'x509', '-noout', '-serial', '-in', '/var/lib/kubernetes/pki/apiserver.crt'])
    const before = await serial()
    await made.done('n2', 'rotateCertificates', WAIT)
    expect(await serial()).not.toBe(before)
    await made.done('n2', 'proveServer', VERSION, WAIT)
  })

  it(
    'refuses to let a server go when no majority would be left, and lets it go when one is',
    async () => {
      await made.machine('n2').ok(['systemctl', 'stop', 'etcd'], { timeoutMs: 60_000 })
      expect(await made.answer('n1', 'removeNode', 'n2', { deadlineMs: 30_000 })).toMatchObject({
        class: 'quorum',
      })
      await made.machine('n2').ok(['systemctl', 'start', 'etcd'])
      await made.done('n1', 'proveServer', VERSION, WAIT)
      await made.done('n1', 'removeNode', 'n2', WAIT)
      expect(await voters('n1')).toEqual(['n1'])
      await made.done('n2', 'wipe')
      await join('n2', 'server', 'op-n2-again')
      expect(await voters('n1')).toEqual(['n1', 'n2'])
    },
    STOPPING_MS,
  )

  it(
    'lets a server take itself out, and takes it back when it was wiped',
    async () => {
      await made.done('n2', 'leave', 'op-leave', WAIT)
      // As when it was killed before it wrote that down: its own datastore has ended, and another one says why.
      await made.machine('n2').ok(['rm', '/var/lib/muster-agent/cluster/left'])
      await made.done('n2', 'leave', 'op-leave', WAIT)
      await made.done('n2', 'leave', 'op-leave', WAIT)
      expect(await voters('n1')).toEqual(['n1'])
      await made.done('n2', 'wipe')
      expect(await made.drive('n2', 'readState')).toMatchObject({ data: { kind: 'none' }, held: false })
      await join('n2', 'server', 'op-n2-after')
      expect(await voters('n1')).toEqual(['n1', 'n2'])
    },
    STOPPING_MS,
  )

  it(
    'adopts nodes as they are, which then start from what it gave them',
    async () => {
      const starts = async (host: Host, unit: string) =>
        await made.machine(host).ok(['systemctl', 'show', '--property=ExecMainStartTimestampMonotonic', unit])
      for (const [host, unit] of [
        ['n2', 'etcd'],
        ['n4', 'kubelet'],
      ] as const) {
        const before = await starts(host, unit)
        // As on a machine that somebody else made a node.
        const marks = ['member', 'ours', 'finished', 'sealed'].map(
          name => `/var/lib/muster-agent/cluster/${name}`,
        )
        await made.machine(host).ok(['rm', '-rf', ...marks, '/run/muster-cluster'])
        expect(await made.drive(host, 'readState')).not.toHaveProperty('adopted')
        expect(await made.answer(host, 'adopt', 'f'.repeat(64))).toMatchObject({ class: 'data-present' })
        expect(await made.done<Joined>(host, 'adopt', authority)).toEqual({ authority })
        expect(await made.drive(host, 'readState')).toMatchObject({ adopted: authority })
        expect(await starts(host, unit)).toBe(before)
        await made.done(host, 'restart')
      }
      await made.done('n2', 'proveServer', VERSION, WAIT)
      await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
      const seen = await made.done<readonly { name: string; saysReady: boolean }[]>('n1', 'nodes')
      expect(seen).toMatchObject([{ name: 'n4', saysReady: true }])
    },
    STOPPING_MS,
  )

  it('takes a worker back that was wiped, under its old name', async () => {
    await made.done('n4', 'wipe')
    await made.done('n1', 'removeNode', 'n4', WAIT)
    await join('n4', 'worker', 'op-n4-again')
    await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
  })

  it('goes back to a snapshot as the only server', async () => {
    await made.kubectl('n1', 'create', 'configmap', 'before')
    const snapshot = await made.done<Snapshot>('n1', 'snapshot', 'first', WAIT)
    expect(snapshot.bytes).toBeGreaterThan(10_000)
    expect(await made.machine('n1').ok(['stat', '-c', '%a', '/var/lib/muster-agent/cluster/snapshots'])).toBe(
      '700\n',
    )
    await made.kubectl('n1', 'create', 'configmap', 'after')
    await made.done('n2', 'hold', true)
    const restoring = { operation: 'op-restore', name: 'first' }
    expect(await made.done<Joined>('n1', 'restore', restoring, WAIT)).toEqual({ authority })
    expect(await voters('n1')).toEqual(['n1'])
    const names = await made.kubectl('n1', 'get', 'configmaps', '-o', 'name')
    expect(names).toContain('configmap/before')
    expect(names).not.toContain('configmap/after')
    await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
  })

  it(
    'is brought back by a snapshot on a server that was installed anew, and its worker comes back by itself',
    async () => {
      await made.kubectl('n1', 'create', 'configmap', 'later')
      await made.done('n1', 'wipe')
      expect(await made.drive('n1', 'readState')).toMatchObject({ data: { kind: 'none' } })
      const restoring = { operation: 'op-anew', name: 'first', authority }
      expect(await made.done<Joined>('n1', 'restore', restoring, WAIT)).toEqual({ authority })
      expect(await voters('n1')).toEqual(['n1'])
      const names = await made.kubectl('n1', 'get', 'configmaps', '-o', 'name')
      expect(names).toContain('configmap/before')
      expect(names).not.toContain('configmap/later')
      await made.done('n1', 'proveServer', VERSION, WAIT)
      await made.done('n1', 'proveNode', { node: 'n4', version: VERSION }, WAIT)
      // As a founder it has another server join.
      await made.done('n2', 'hold', false)
      await made.done('n2', 'wipe')
      await join('n2', 'server', 'op-n2-anew')
      expect(await voters('n1')).toEqual(['n1', 'n2'])
    },
    2 * STOPPING_MS,
  )
})
