import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { readPeerUrls } from './etcd/etcd-client.ts'
import { readK0sToken } from './k0s/k0s-token.ts'
import { authorityId } from './node/certificates.ts'
import { DONE, failed, type Result } from './result.ts'
import { untilSettled } from './shared-acts.ts'
import { AUTHORITY_PEM, type DriverFixture, makeDriver } from './testing/driver-fixture.ts'
import { member, nodeObject } from './testing/made-up-objects.ts'
import type { Script } from './testing/scripted-system.ts'

const AUTHORITY = authorityId(Buffer.from(AUTHORITY_PEM)) ?? ''
const WAIT = { deadlineMs: 300, everyMs: 20 }
const K3S = '/var/lib/rancher/k3s'
const PKI = '/var/lib/kubernetes/pki'
const KUBECONFIG = `clusters:
- cluster:
    certificate-authority-data: ${Buffer.from(AUTHORITY_PEM).toString('base64')}
`
const STOPPED = 'ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=5\nResult=success\n'
const worker = { role: 'worker', nodeName: 'n4', nodeAddress: '10.91.0.13' } as const

async function k3sServer(script: Script = []): Promise<DriverFixture> {
  const made = await makeDriver({}, script, [member('n1'), member('n2'), member('n3')])
  await made.put(`${K3S}/server/db/etcd/member/wal`, 'x')
  await made.put(`${K3S}/server/tls/server-ca.crt`, AUTHORITY_PEM)
  await made.put(`${K3S}/server/token`, 'K10abc::server:permanent\n')
  await made.put(`${K3S}/server/agent-token`, 'K10abc::agents\n')
  return made
}

describe('adopting a node of a running cluster', () => {
  it('gives k3s’ server back what it needs at a boot, starts and stops nothing, and counts it as ours', async () => {
    await using made = await k3sServer()
    expect((await made.driver.readState()).adopted).toBeUndefined()
    expect(await made.driver.adopt(AUTHORITY)).toEqual({ kind: 'done', value: { authority: AUTHORITY } })
    expect(await made.files.get('token')).toBe('K10abc::server:permanent')
    expect(await made.files.get('agent-token')).toBe('agents')
    expect(await made.files.get('start.env')).toBe('K3S_URL=https://10.91.0.11:6443\n')
    expect(await made.files.readMark('member')).toBe('')
    expect(await made.read('/run/muster-cluster/ready')).toBe('')
    expect((await made.driver.readState()).adopted).toBe(AUTHORITY)
    expect(made.system.ran.filter(({ line }) => /start|stop/.test(line))).toEqual([])
    // Told twice, it is the same.
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
  })

  it('refuses another authority, no data, another role, a foreign layout and a datastore that cannot grow', async () => {
    await using made = await k3sServer()
    expect(await made.driver.adopt('e'.repeat(64))).toMatchObject({ class: 'data-present' })
    await using empty = await makeDriver({}, [])
    expect(await empty.driver.adopt(AUTHORITY)).toMatchObject({ class: 'precondition' })
    await using other = await makeDriver(worker, [])
    await other.put(`${K3S}/server/db/etcd/member/wal`, 'x')
    await other.put(`${K3S}/server/tls/server-ca.crt`, AUTHORITY_PEM)
    expect(await other.driver.adopt(AUTHORITY)).toMatchObject({ class: 'precondition' })
    await using foreign = await makeDriver({ distribution: 'k0s' }, [])
    await foreign.put(`${K3S}/server/db/etcd/member/wal`, 'x')
    await foreign.put(`${K3S}/server/tls/server-ca.crt`, AUTHORITY_PEM)
    expect(await foreign.driver.adopt(AUTHORITY)).toMatchObject({ class: 'precondition' })
    await using sqlite = await makeDriver({}, [])
    await sqlite.put(`${K3S}/server/db/state.db`, 'x')
    await sqlite.put(`${K3S}/server/tls/server-ca.crt`, AUTHORITY_PEM)
    expect(await sqlite.driver.adopt(AUTHORITY)).toMatchObject({ class: 'unsupported' })
    for (const each of [made, empty, other, foreign, sqlite]) {
      expect(await each.files.readMark('ours')).toBeUndefined()
      expect(await each.files.readMark('member')).toBeUndefined()
    }
  })

  it('gives workers of k3s and k0s a well-formed token that opens nothing', async () => {
    await using k3s = await makeDriver(worker, [])
    await k3s.put(`${K3S}/agent/client-kubelet.crt`, 'x')
    await k3s.put(`${K3S}/agent/server-ca.crt`, AUTHORITY_PEM)
    expect(await k3s.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    const hash = createHash('sha256').update(AUTHORITY_PEM).digest('hex')
    expect(await k3s.files.get('token')).toMatch(new RegExp(`^K10${hash}::[a-z0-9]{6}\\.[a-z0-9]{16}$`))
    expect(await k3s.files.get('start.env')).toBe('K3S_URL=https://10.91.0.10:6443\n')
    expect(await k3s.files.readMark('member')).toBeUndefined()
    await using k0s = await makeDriver({ ...worker, distribution: 'k0s' }, [])
    await k0s.put('/var/lib/k0s/kubelet.conf', KUBECONFIG)
    expect(await k0s.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    expect(readK0sToken((await k0s.files.get('token')) ?? '')).toMatchObject({ kind: 'worker' })
  })

  it('refuses a cluster with certificates of nixpkgs’ own, and says why', async () => {
    const kubernetes = { distribution: 'kubernetes', units: ['etcd.service', 'kubelet.service'] } as const
    await using master = await makeDriver(kubernetes, [])
    await master.put('/var/lib/etcd/member/wal/0', 'x')
    await master.put('/var/lib/cfssl/ca-key.pem', 'x')
    await using node = await makeDriver({ ...worker, ...kubernetes, units: ['kubelet.service'] }, [])
    await node.put('/var/lib/kubernetes/secrets/kubelet-client.pem', 'x')
    for (const each of [master, node]) {
      await each.put('/var/lib/kubernetes/secrets/ca.pem', AUTHORITY_PEM)
      expect(await each.driver.adopt(AUTHORITY)).toMatchObject({
        class: 'unsupported',
        reason: expect.stringContaining('easyCerts'),
      })
      expect(await each.files.readMark('ours')).toBeUndefined()
      expect(await each.driver.found('f1', WAIT)).toMatchObject({ class: 'data-present' })
    }
  })

  /** A server that kubeadm made; what an adoption needs beyond `ca.key` is left to the test. */
  async function kubeadmServer(script: Script): Promise<DriverFixture> {
    const made = await makeDriver(
      { distribution: 'components', units: ['etcd.service', 'kubelet.service'] },
      script,
    )
    await made.put('/var/lib/etcd/member/wal/0', 'x')
    for (const name of ['ca', 'front-proxy-ca', 'etcd/ca']) {
      await made.put(`/etc/kubernetes/pki/${name}.crt`, AUTHORITY_PEM)
      await made.put(`/etc/kubernetes/pki/${name}.key`, `key of ${name}`)
    }
    await made.put('/etc/kubernetes/pki/sa.pub', 'pub')
    return made
  }
  const BOUND: Script = [[/kubectl .*apply --server-side/, '{"kind":"List","items":[]}']]

  it('copies what kubeadm put elsewhere to where the units look, and leaves it where it was', async () => {
    await using made = await kubeadmServer(BOUND)
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ class: 'precondition' })
    await made.put('/etc/kubernetes/pki/sa.key', 'sa')
    await made.put('/etc/kubernetes/admin.conf', 'admin')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    expect(await made.read(`${PKI}/etcd/ca.key`)).toBe('key of etcd/ca')
    expect(await made.read('/var/lib/kubernetes/admin.conf')).toBe('admin')
    expect(await made.read('/etc/kubernetes/pki/sa.key')).toBe('sa')
    expect(await made.files.get('start.env')).toBe(
      'ETCD_INITIAL_CLUSTER=n1=https://10.91.0.10:2380\nETCD_INITIAL_CLUSTER_STATE=existing\n',
    )
    expect(await made.files.get('bootstrap-kubelet.conf')).toContain('https://10.91.0.10:6443')
  })

  it('binds in the cluster what machines that join need, whoever made it, and once', async () => {
    await using made = await kubeadmServer(BOUND)
    await made.put('/etc/kubernetes/pki/sa.key', 'sa')
    await made.put('/etc/kubernetes/admin.conf', 'admin')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    const applied = () => made.system.ran.filter(({ line }) => /apply/.test(line))
    expect(applied()).toHaveLength(1)
    for (const name of ['cluster-admins', 'kubelet-bootstrap', 'node-autoapprove-bootstrap'])
      expect(applied()[0]?.input).toContain(`"kubeadm:${name}"`)
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
    expect(applied()).toHaveLength(1)
    await using refused = await kubeadmServer([
      [/apply/, { exitCode: 1, stderr: 'Error from server (Forbidden): you may not' }],
    ])
    await refused.put('/etc/kubernetes/pki/sa.key', 'sa')
    expect(await refused.driver.adopt(AUTHORITY)).toMatchObject({
      reason: expect.stringMatching(/could not be bound in the cluster: .*you may not/),
    })
    expect(await refused.files.readMark('ours')).toBeUndefined()
  })

  it('refuses a server whose etcd keeps its data elsewhere: it would not start at the next boot', async () => {
    await using made = await makeDriver(
      { distribution: 'components', units: ['etcd.service'], etcdDataDir: '/srv/etcd' },
      BOUND,
    )
    for (const name of ['ca', 'front-proxy-ca', 'etcd/ca']) {
      await made.put(`${PKI}/${name}.crt`, AUTHORITY_PEM)
      await made.put(`${PKI}/${name}.key`, 'key')
    }
    for (const name of ['sa.pub', 'sa.key']) await made.put(`${PKI}/${name}`, 'sa')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('no /srv/etcd/member'),
    })
    expect(await made.files.readMark('member')).toBeUndefined()
    await made.put('/srv/etcd/member/wal/0', 'x')
    expect(await made.driver.adopt(AUTHORITY)).toMatchObject({ kind: 'done' })
  })
})

describe('a server that leaves', () => {
  const script: Script = [
    [/get --raw \S+\/nodes\/n1 /, JSON.stringify(nodeObject('n1'))],
    [/delete --raw/, '{}'],
  ]

  it('takes out its password, its Node and then its own member, once', async () => {
    await using made = await k3sServer(script)
    expect(await made.driver.leave('l1', WAIT)).toEqual({ kind: 'done', value: undefined })
    const removed = made.system.ran.flatMap(({ line }) => /delete --raw \S*\/(\S+)/.exec(line)?.[1] ?? [])
    expect(removed).toEqual(['n1.node-password.k3s', 'n1'])
    expect(await made.files.readMark('left')).toBe('l1')
    const ran = made.system.ran.length
    expect(await made.driver.leave('l1', WAIT)).toEqual({ kind: 'done', value: undefined })
    expect(made.system.ran.length).toBe(ran)
  })

  it('of k0s takes out what is kept of a controller, too', async () => {
    const nothing = { exitCode: 1, stderr: 'Error from server (NotFound): there is none' }
    await using made = await makeDriver(
      { distribution: 'k0s' },
      [
        [/delete --raw \S*controlnodes/, nothing],
        [/delete --raw/, '{}'],
        [/get --raw/, nothing],
      ],
      [member('n1'), member('n2'), member('n3')],
    )
    expect(await made.driver.leave('l1', WAIT)).toEqual({ kind: 'done', value: undefined })
    const removed = made.system.ran.flatMap(
      ({ line }) => /delete --raw \S*\/(\S+\/\S+)/.exec(line)?.[1] ?? [],
    )
    expect(removed).toEqual(['controlnodes/n1', 'etcdmembers/n1'])
  })

  it('T39: does not when the others would have no majority, and then nothing of it is taken away', async () => {
    await using made = await makeDriver({}, script, [member('n1'), member('n2', { healthy: false })])
    expect(await made.driver.leave('l1', WAIT)).toMatchObject({ class: 'quorum' })
    expect(made.system.ran).toEqual([])
    expect(await made.files.readMark('left')).toBeUndefined()
  })

  it('and a worker has nothing to take out', async () => {
    await using made = await makeDriver(worker, [])
    expect(await made.driver.leave('l1', WAIT)).toEqual({ kind: 'done', value: undefined })
  })
})

describe('what another member says of who is one', () => {
  it('is read by the URLs of peers, whose ids are too big for numbers', () => {
    const text =
      '[{"id":9304882837462349001,"peerURLs":["https://10.91.0.10:2380"],"name":"n1","clientURLs":["https://10.91.0.10:2379"]},' +
      '{"id":80,"peerURLs":["https://10.91.0.11:2380"],"name":"n2","clientURLs":[],"isLearner":true}]'
    expect(readPeerUrls(text)).toEqual(['https://10.91.0.10:2380', 'https://10.91.0.11:2380'])
    for (const bad of [undefined, '', '[]', '{}', '[{"id":1}]', '[{"peerURLs":"x"}]', 'no members'])
      expect(readPeerUrls(bad)).toBeUndefined()
  })
})

describe('a change of members', () => {
  const unhealthy = failed(
    'quorum',
    'etcd at 127.0.0.1:2379, Cluster/MemberRemove: etcdserver: unhealthy cluster',
  )

  it('that is refused since one has just come back is tried again within its time, and no other', async () => {
    const answers: Result<void>[] = [unhealthy, unhealthy, DONE]
    let asked = 0
    const change = async () => answers[asked++] ?? DONE
    expect(await untilSettled({ deadlineMs: 5_000, everyMs: 1 }, change)).toEqual(DONE)
    expect(asked).toBe(3)
    const never = await untilSettled({ deadlineMs: 20, everyMs: 1 }, async () => unhealthy)
    expect(never).toEqual(unhealthy)
    let tries = 0
    const lost = await untilSettled({ deadlineMs: 5_000, everyMs: 1 }, async () => {
      tries += 1
      return failed('quorum', 'no leader')
    })
    expect([lost.kind, tries]).toEqual(['failed', 1])
    const stopped = AbortSignal.abort()
    expect(await untilSettled({ deadlineMs: 5_000, signal: stopped }, async () => unhealthy)).toEqual(
      unhealthy,
    )
  })
})

describe('nodes as a server sees them', () => {
  const lease = { metadata: { name: 'n1' }, spec: { renewTime: '2026-11-28T12:00:00.000000Z' } }

  it('Q2: come with their leases, and with the names that only a password of k3s is left of, of either type', async () => {
    const secrets = (...names: readonly string[]) =>
      JSON.stringify({ items: names.map(name => ({ metadata: { name } })) })
    await using made = await makeDriver({}, [
      [/leases/, JSON.stringify({ items: [lease] })],
      [/\/nodes/, JSON.stringify({ items: [nodeObject('n1'), nodeObject('n4')] })],
      [
        /secrets\?fieldSelector=type%3Dk3s\.cattle\.io%2Fnode-password/,
        secrets('n4.node-password.k3s', 'n5.node-password.k3s'),
      ],
      [/secrets\?fieldSelector=type%3DOpaque/, secrets('n6.node-password.k3s', 'other')],
    ])
    expect(await made.driver.cluster.nodes()).toMatchObject({
      kind: 'done',
      value: [
        { name: 'n1', uid: 'uid-n1', saysReady: true, renewedMs: Date.parse('2026-11-28T12:00:00Z') },
        { name: 'n4', uid: 'uid-n4', renewedMs: undefined },
        { name: 'n5', uid: '', saysReady: false },
        { name: 'n6', uid: '', saysReady: false },
      ],
    })
  })

  it('are not told at all where one cannot be read: what is missing would be taken for gone', async () => {
    await using made = await makeDriver({ distribution: 'components' }, [
      [/leases/, JSON.stringify({ items: [] })],
      [/\/nodes/, JSON.stringify({ items: [nodeObject('n1'), { metadata: { name: 'n2' } }] })],
    ])
    expect(await made.driver.cluster.nodes()).toMatchObject({ class: 'unreadable' })
  })
})

describe('an operation that founded or joined', () => {
  it('is over though it is called again after its end, and wiped away with the data', async () => {
    await using made = await k3sServer([
      [/^systemctl show/, STOPPED],
      [/^systemctl/, ''],
      [/^k3s-killall/, ''],
    ])
    await made.files.mark('finished', 'op')
    await made.files.mark('ours', AUTHORITY)
    expect(await made.driver.found('op', WAIT)).toEqual({ kind: 'done', value: { authority: AUTHORITY } })
    expect(await made.driver.found('other', WAIT)).toMatchObject({ class: 'data-present' })
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    for (const mark of ['finished', 'ours', 'member', 'left', 'begun'] as const)
      expect(await made.files.readMark(mark)).toBeUndefined()
  })
})

describe('copies of the datastore', () => {
  it.each(['k3s', 'k0s', 'components', 'kubernetes'] as const)(
    '%s: outlive a wipe of the data, and are dropped with the keys beside them',
    async distribution => {
      const stopped: Script = [
        [/^systemctl show/, STOPPED],
        [/^(systemctl|k3s-killall|k0s reset)/, ''],
      ]
      await using made = await makeDriver({ distribution, role: 'server' }, stopped)
      for (const name of ['first/etcd.db', 'first/pki/ca.key', 'second.partial/token'])
        await made.put(`/state/snapshots/${name}`, 'x')
      expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
      expect(await made.read('/state/snapshots/first/pki/ca.key')).toBe('x')
      expect(await made.driver.dropSnapshots()).toMatchObject({ kind: 'done' })
      expect(await made.files.list('/state/snapshots')).toEqual([])
    },
  )
})
