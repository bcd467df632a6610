import { statSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { JoinSecret } from '../driver.ts'
import type { SeenMember } from '../etcd/member.ts'
import { readJoinSecret, writeJoinSecret } from '../join-secret.ts'
import { AUTHORITY_PEM, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import type { Script } from '../testing/scripted-system.ts'
import { initialCluster, otherClients, readTokenId, writeTokenId } from './initial-cluster.ts'
import { AUTHORITY_FILES, bootstrapKubeconfig, kubeadmConfig } from './pki.ts'

const WAIT = { deadlineMs: 400, everyMs: 20 }
const PKI = '/var/lib/kubernetes/pki'
const SERVER_UNITS = [
  'etcd.service',
  'kube-apiserver.service',
  'kube-controller-manager.service',
  'kube-scheduler.service',
]
const server = { distribution: 'components', units: SERVER_UNITS } as const
const worker = {
  ...server,
  role: 'worker',
  nodeName: 'n4',
  nodeAddress: '10.91.0.13',
  units: ['kubelet.service'],
} as const
const running: Script = [
  [
    /^systemctl show/,
    'ActiveState=active\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n',
  ],
  [/^systemctl/, ''],
  [/^journalctl/, ''],
  [/^kube-apiserver --version/, 'Kubernetes v1.34.3\n'],
  [/^kubeadm init phase/, ''],
  [/--raw \/readyz/, 'ok'],
  [/ apply --server-side/, '{"kind":"List","items":[]}'],
]
const files = (names: readonly string[]) =>
  new Map(names.map(name => [name, name.endsWith('.crt') ? AUTHORITY_PEM : 'k']))
const secretOf = (change: Partial<JoinSecret>): JoinSecret => ({
  distribution: 'components',
  role: 'worker',
  server: '10.91.0.10:6443',
  token: 'abcdef.0123456789abcdef',
  agentToken: undefined,
  files: files(['ca.crt']),
  initialCluster: undefined,
  ...change,
})

describe('the driver of components', () => {
  it('founds: certificates, first bindings, and no key left that goes past every rule', async () => {
    await using made = await makeDriver(server, running, [member('n1')])
    await made.put(`${PKI}/ca.crt`, AUTHORITY_PEM)
    await made.put('/var/lib/kubernetes/super-admin.conf', 'x')
    expect(await made.driver.found('op', WAIT)).toMatchObject({ kind: 'done' })
    const phases = made.system.ran.flatMap(
      ({ line }) => /^kubeadm init phase (\S+ \S+)/.exec(line)?.[1] ?? [],
    )
    expect(phases).toEqual([
      'certs all',
      'kubeconfig admin',
      'kubeconfig controller-manager',
      'kubeconfig scheduler',
      'kubeconfig super-admin',
    ])
    const applied = made.system.ran.find(({ line }) => line.includes('apply --server-side'))
    expect(applied?.line).toContain('--kubeconfig=/var/lib/kubernetes/super-admin.conf')
    expect(applied?.input).toContain('system:node-bootstrapper')
    await expect(made.read('/var/lib/kubernetes/super-admin.conf')).rejects.toThrow('ENOENT')
    expect(await made.files.get('start.env')).toBe(
      'ETCD_INITIAL_CLUSTER=n1=https://10.91.0.10:2380\nETCD_INITIAL_CLUSTER_STATE=existing\n',
    )
  })

  it('gives nixpkgs’ services, which are users of their own, their keys and ways to them', async () => {
    const ofUsers: Script = [...running, [/^(chmod|chown) /, '']]
    await using made = await makeDriver({ ...server, distribution: 'kubernetes' }, ofUsers, [member('n1')])
    await made.files.mark('begun', 'op')
    for (const name of ['ca.crt', 'ca.key', 'sa.pub', 'etcd/ca.crt', 'etcd/ca.key'])
      await made.put(`${PKI}/${name}`, AUTHORITY_PEM)
    for (const name of ['admin', 'scheduler']) await made.put(`/var/lib/kubernetes/${name}.conf`, 'x')
    expect(await made.driver.found('op', WAIT)).toMatchObject({ kind: 'done' })
    const given = made.system.ran.flatMap(({ line }) => (/^ch/.test(line) ? [line.replaceAll(PKI, 'P')] : []))
    expect(given).toEqual([
      'chmod 0755 P P/etcd',
      'chmod 0644 P/ca.crt P/sa.pub P/etcd/ca.crt',
      'chown etcd:etcd P/etcd/ca.crt P/etcd/ca.key',
      'chown kubernetes:kubernetes P/ca.crt P/ca.key P/sa.pub /var/lib/kubernetes/scheduler.conf',
    ])
  })

  it('says which member leads the datastore', async () => {
    const members: SeenMember[] = [member('n2'), member('n1')]
    await using made = await makeDriver(server, [], members)
    expect(await made.driver.cluster.members()).toMatchObject({
      kind: 'done',
      value: [
        { name: 'n2', leads: true },
        { name: 'n1', leads: false },
      ],
    })
  })

  it('T39: adds a server as a learner, once for a join, and only to a datastore that is well', async () => {
    const members: SeenMember[] = [member('n1', { peerUrls: ['https://10.91.0.10:2380'] })]
    await using made = await makeDriver(server, [[/secrets\?fieldSelector/, '{"items":[]}']], members)
    for (const name of AUTHORITY_FILES) await made.put(`${PKI}/${name}`, 'x')
    const request = {
      operation: 'op',
      node: 'n2',
      role: 'server',
      address: '10.91.0.11',
      machineId: undefined,
    } as const
    for (const _ of [1, 2]) {
      expect(await made.driver.cluster.mint({ ...request, lifetimeMs: 600_000 })).toMatchObject({
        kind: 'done',
        value: {
          tokenId: 'member-added',
          secret: { initialCluster: 'n1=https://10.91.0.10:2380,n2=https://10.91.0.11:2380', token: '' },
        },
      })
      expect(members).toHaveLength(2)
    }
    const other = { ...request, node: 'n3', address: '10.91.0.12', operation: 'op3' }
    expect(await made.driver.cluster.mint({ ...other, lifetimeMs: 600_000 })).toMatchObject({
      class: 'quorum',
    })
  })

  it('the authorities of nixpkgs’ cluster go from a server to a server that joins, in its secret alone', async () => {
    const nixpkgs = { ...server, distribution: 'kubernetes' } as const
    const members = [member('n1', { peerUrls: ['https://10.91.0.10:2380'] })]
    await using founder = await makeDriver(
      nixpkgs,
      [
        [/secrets\?fieldSelector/, '{"items":[]}'],
        [/create --raw/, '{}'],
      ],
      members,
    )
    for (const name of AUTHORITY_FILES) {
      const text = name.endsWith('.crt') ? AUTHORITY_PEM : `only servers know ${name}`
      await founder.put(`${PKI}/${name}`, text)
    }
    const request = { operation: 'op', address: '10.91.0.11', machineId: undefined, lifetimeMs: 600_000 }
    const minted = await founder.driver.cluster.mint({ ...request, node: 'n2', role: 'server' })
    if (minted.kind === 'failed') throw new Error(minted.reason)
    const told = JSON.stringify(founder.system.ran)
    expect(told).not.toContain('only servers know')
    // As it is sealed to the joiner's key, and read there.
    const secret = readJoinSecret(writeJoinSecret(minted.value.secret))
    if (!secret) throw new Error('it cannot be read')
    expect([...secret.files.keys()].toSorted()).toEqual([...AUTHORITY_FILES].toSorted())

    const joinerFacts = { ...nixpkgs, nodeName: 'n2', nodeAddress: '10.91.0.11' }
    const ofUsers: Script = [[/^(chmod|chown) /, ''], ...running]
    await using joiner = await makeDriver(joinerFacts, ofUsers, members)
    expect(await joiner.driver.join('op', secret, WAIT)).toMatchObject({ kind: 'done' })
    for (const name of AUTHORITY_FILES) {
      expect(await joiner.read(`${PKI}/${name}`)).toBe(await founder.read(`${PKI}/${name}`))
      const mode = statSync(`${joiner.root}${PKI}/${name}`).mode & 0o777
      expect(mode.toString(8), name).toBe(name.endsWith('.key') ? '600' : '644')
    }
    const phases = joiner.system.ran.filter(({ line }) => line.startsWith('kubeadm'))
    expect(phases.some(({ line }) => line.includes('super-admin'))).toBe(false)
    expect(await joiner.files.get('start.env')).toContain('ETCD_INITIAL_CLUSTER_STATE=existing')
    expect(JSON.stringify(joiner.system.ran)).not.toContain('only servers know')
  })

  it('K18: mints a worker’s token by standard input, and gives it nothing but the authority’s certificate', async () => {
    await using made = await makeDriver(server, [
      [/secrets\?fieldSelector/, '{"items":[]}'],
      [/create --raw/, '{}'],
    ])
    await made.put(`${PKI}/ca.crt`, AUTHORITY_PEM)
    const request = {
      operation: 'op',
      node: 'n4',
      role: 'worker',
      address: '10.91.0.13',
      machineId: undefined,
    } as const
    const minted = await made.driver.cluster.mint({ ...request, lifetimeMs: 600_000 })
    if (minted.kind === 'failed') throw new Error(minted.reason)
    const { secret, tokenId } = minted.value
    expect([...secret.files.keys()]).toEqual(['ca.crt'])
    expect(secret.token).toMatch(new RegExp(`^${tokenId}\\.[a-z0-9]{16}$`))
    const hidden = secret.token.slice(7)
    expect(made.system.ran.some(({ line }) => line.includes(hidden))).toBe(false)
    const input = made.system.ran.find(ran => ran.input.includes(hidden))?.input ?? ''
    expect(input).toContain('"expiration":"2026-11-28T12:10:00Z"')
    expect(input).toContain('muster op for n4')
  })

  it.each<[string, Partial<JoinSecret>, object, RegExp]>([
    ['of another distribution', { distribution: 'k3s' }, worker, /one of k3s/],
    ['with keys for a worker', { files: files(['ca.crt', 'ca.key']) }, worker, /holds keys of the cluster/],
    ['without a token for a kubelet', { token: '' }, worker, /no token/],
    ['without authorities for a server', {}, server, /does not hold .*sa\.key/],
    ['without members for a server', { files: files(AUTHORITY_FILES) }, server, /which members/],
  ])('refuses a secret %s, before anything is written', async (_, change, facts, reason) => {
    await using made = await makeDriver(facts, running)
    expect(await made.driver.join('op', secretOf(change), WAIT)).toMatchObject({
      class: 'token-refused',
      reason: expect.stringMatching(reason),
    })
    expect(await made.files.readMark('begun')).toBeUndefined()
  })

  it('says that a token is refused when the kubelet says so again and again, and not the first time', async () => {
    const line = 'err="cannot create certificate signing request: Unauthorized"'
    const saying = (times: number): Script => [
      [/^journalctl/, Array.from({ length: times }, () => line).join('\n')],
      ...running,
    ]
    await using refused = await makeDriver(worker, saying(4))
    expect(await refused.driver.join('op', secretOf({}), WAIT)).toMatchObject({ class: 'token-refused' })
    await using slow = await makeDriver(worker, saying(2))
    expect(await slow.driver.join('op', secretOf({}), WAIT)).toMatchObject({ class: 'timed-out' })
  })

  it('refuses a server a secret for another address', async () => {
    await using made = await makeDriver(server, running)
    const other = { files: files(AUTHORITY_FILES), initialCluster: 'n1=https://10.91.0.9:2380' }
    expect(await made.driver.join('op', secretOf(other), WAIT)).toMatchObject({
      reason: expect.stringContaining('another address than 10.91.0.10'),
    })
  })

  it('takes an invitation back that was never followed, and no member that votes', async () => {
    const members = [
      member('n1'),
      member('', { id: 'ab', learner: true, healthy: false }),
      member('n2', { id: 'cd' }),
    ]
    await using made = await makeDriver(server, [], members)
    expect(await made.driver.cluster.deleteToken('member-ab')).toMatchObject({ kind: 'done' })
    expect(await made.driver.cluster.deleteToken('member-cd')).toMatchObject({ kind: 'done' })
    expect(members.map(({ name }) => name)).toEqual(['n1', 'n2'])
  })
})

describe('what etcd is started with', () => {
  it('names the joiner as it will be called', () => {
    const added = member('', { peerUrls: ['https://10.0.0.2:2380'], learner: true })
    const members = [member('n1', { peerUrls: ['https://10.0.0.1:2380'] }), added]
    const text = initialCluster(members, { node: 'n2', peerUrl: 'https://10.0.0.2:2380' })
    expect(text).toBe('n1=https://10.0.0.1:2380,n2=https://10.0.0.2:2380')
    expect(otherClients(text, 'https://10.0.0.2:2380')).toEqual(['10.0.0.1:2379'])
    expect(otherClients('a=https://[fd00::1]:2380', 'x')).toEqual(['[fd00::1]:2379'])
  })

  it('reads ids of tokens and members as it writes them', () => {
    expect(readTokenId(writeTokenId('abcdef', 'ff'))).toEqual({ token: 'abcdef', member: 'ff' })
    expect(readTokenId(writeTokenId(undefined, 'ff'))).toEqual({ token: undefined, member: 'ff' })
    expect(readTokenId('')).toEqual({ token: undefined, member: undefined })
  })
})

it('kubeadm is told this server’s own address, names and networks', () => {
  const text = kubeadmConfig({
    node: 'n1',
    address: 'fd00::1',
    port: 6443,
    version: '1.34.3',
    names: ['vip', 'n1'],
    podCidr: '10.1.0.0/16',
    serviceCidr: undefined,
    domain: 'cluster.local',
    etcdDataDir: '/srv/etcd',
  })
  const [, cluster] = text.split('\n---\n').map(part => JSON.parse(part) as unknown)
  expect(cluster).toMatchObject({
    kubernetesVersion: 'v1.34.3',
    controlPlaneEndpoint: '[fd00::1]:6443',
    networking: { podSubnet: '10.1.0.0/16', dnsDomain: 'cluster.local' },
    apiServer: { certSANs: ['vip', 'n1', 'fd00::1'] },
    etcd: { local: { dataDir: '/srv/etcd' } },
  })
  expect(bootstrapKubeconfig('PEM', '10.0.0.1:6443', 't')).toContain('"token":"t"')
})
