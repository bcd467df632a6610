import { readFileSync } from 'node:fs'
import { gunzipSync, gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { JoinSecret } from '../driver.ts'
import { AUTHORITY_PEM, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import type { Script } from '../testing/scripted-system.ts'
import { readK0sToken, spendK0sToken, spentK0sToken } from './k0s-token.ts'

const SECRET = '0123456789abcdef'
const WAIT = { deadlineMs: 400, everyMs: 20 }
const PKI = '/var/lib/k0s/pki'
const packed = (user: string, id = 'abcdef') =>
  gzipSync(
    `apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://10.91.0.10:6443\n  name: k0s\nkind: Config\nusers:\n- name: ${user}\n  user:\n    token: ${id}.${SECRET}\n`,
  ).toString('base64')
const WORKER = packed('kubelet-bootstrap')
const CONTROLLER = packed('controller-bootstrap')
const running: Script = [
  [
    /^systemctl show/,
    'ActiveState=active\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n',
  ],
  [/^systemctl/, ''],
  [/^journalctl/, ''],
  [/^k0s kubectl get --raw \/readyz/, 'ok'],
]
const k0s = { distribution: 'k0s', units: ['k0s.service'] } as const
const worker = { ...k0s, role: 'worker', nodeName: 'n4' } as const
const secretOf = (token: string): JoinSecret => ({
  distribution: 'k0s',
  role: 'worker',
  server: '10.91.0.10:6443',
  token,
  agentToken: undefined,
  files: new Map(),
  initialCluster: undefined,
})

describe('a token of k0s', () => {
  it('is read by its kind and id', () => {
    expect(readK0sToken(`${WORKER}\n`)).toMatchObject({ id: 'abcdef', kind: 'worker' })
    expect(readK0sToken(CONTROLLER)).toMatchObject({ kind: 'controller' })
    for (const bad of ['', '# used', 'QUJD', packed('somebody')]) expect(readK0sToken(bad)).toBeUndefined()
  })

  it('trap: spent is of the same form, since a version parses it at every start', () => {
    const token = readK0sToken(WORKER)
    if (!token) throw new Error('no token')
    const spent = spendK0sToken(token)
    expect(readK0sToken(spent)).toMatchObject({ id: 'spent0', kind: 'worker' })
    expect(gunzipSync(Buffer.from(spent, 'base64')).toString()).toBe(
      token.kubeconfig.replace(`abcdef.${SECRET}`, 'spent0.0000000000000000'),
    )
    expect(readK0sToken(spentK0sToken(AUTHORITY_PEM, 'https://n1:9443', 'controller'))).toMatchObject({
      id: 'spent0',
      kind: 'controller',
    })
  })
})

describe('the driver of k0s', () => {
  it('founds without a token, and never founds again: its unit has one that opens nothing afterwards', async () => {
    await using made = await makeDriver(k0s, running, [member('n1')])
    // An authority alone is no cluster's data.
    await made.put(`${PKI}/ca.crt`, AUTHORITY_PEM)
    expect(await made.driver.found('op', WAIT)).toMatchObject({ kind: 'done' })
    expect(await made.files.get('start.env')).toBe('MUSTER_K0S_JOIN=--token-file=/run/muster-cluster/token\n')
    expect(readK0sToken((await made.files.get('token')) ?? '')).toMatchObject({
      id: 'spent0',
      kind: 'controller',
    })
    expect(await made.files.readMark('member')).toBe('')
  })

  it('mints with an expiry and writes into the cluster whom for', async () => {
    await using made = await makeDriver(k0s, [
      [/secrets\?fieldSelector/, '{"items":[]}'],
      [/^k0s token create/, `${CONTROLLER}\n`],
      [/^k0s kubectl patch secret/, '{}'],
    ])
    const request = {
      operation: 'op1',
      node: 'n2',
      role: 'server',
      address: '10.91.0.11',
      machineId: undefined,
    } as const
    const minted = await made.driver.cluster.mint({ ...request, lifetimeMs: 600_000 })
    expect(minted).toMatchObject({
      kind: 'done',
      value: { tokenId: 'abcdef', secret: { token: CONTROLLER } },
    })
    const lines = made.system.ran.map(({ line }) => line)
    expect(lines).toContain('k0s token create --role=controller --expiry=600s')
    expect(lines.at(-1)).toContain('--patch={"stringData":{"description":"muster op1 for n2"}}')
  })

  it('trap: believes no deletion that a listing does not show', async () => {
    const listed = { items: [{ data: { 'token-id': Buffer.from('abcdef').toString('base64') } }] }
    await using made = await makeDriver(k0s, [
      [/delete --raw/, ''],
      [/secrets\?fieldSelector/, JSON.stringify(listed)],
    ])
    expect(await made.driver.cluster.deleteToken('abcdef')).toMatchObject({
      kind: 'failed',
      reason: 'token abcdef is still listed after it was deleted',
    })
  })

  it('trap: a healthy worker is told by what it was given, not by what k0s says of its connection', async () => {
    await using made = await makeDriver(worker, running)
    const joined = made.driver.join('op', secretOf(WORKER), { ...WAIT, deadlineMs: 20_000 })
    await expect.poll(async () => await made.files.get('token')).toBe(WORKER)
    await made.put(`${PKI}/ca.crt`, AUTHORITY_PEM)
    await made.put('/var/lib/k0s/kubelet/pki/kubelet-client-current.pem', '')
    await made.put('/var/lib/k0s/kubelet.conf', '')
    expect(await joined).toMatchObject({ kind: 'done' })
    expect(readK0sToken((await made.files.get('token')) ?? '')).toMatchObject({
      id: 'spent0',
      kind: 'worker',
    })
    expect(made.system.ran.some(({ line }) => line.includes('k0s status'))).toBe(false)
  })

  it('refuses a worker a controller’s token, which would give it the keys of the cluster', async () => {
    await using made = await makeDriver(worker, running)
    expect(await made.driver.join('op', secretOf(CONTROLLER), WAIT)).toMatchObject({ class: 'token-refused' })
    expect(await made.files.get('token')).toBeUndefined()
  })

  it('trap: says that a condition holds the unit back, instead of waiting for nothing', async () => {
    const held = 'ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=5\nResult=success\n'
    await using made = await makeDriver(worker, [[/^systemctl show/, held], ...running])
    expect(await made.driver.join('op', secretOf(WORKER), WAIT)).toMatchObject({
      class: 'timed-out',
      reason: expect.stringContaining('a condition of it does not hold'),
    })
  })

  it('counts the majority itself before it has a controller leave, for k0s counts nothing', async () => {
    const members = [member('n1'), member('n2', { peerUrls: ['https://10.91.0.11:2380'], healthy: false })]
    await using made = await makeDriver(
      k0s,
      [[/nodes\/n2/, { exitCode: 1, stderr: 'Error from server (NotFound): x' }]],
      members,
    )
    expect(await made.driver.cluster.removeNode('n2', WAIT)).toMatchObject({ class: 'quorum' })
    expect(made.system.ran.some(({ line }) => line.includes('etcd leave'))).toBe(false)
  })

  it('trap: has k0s take away everything but the system’s users, which its reset deletes by its configuration', async () => {
    let config = ''
    await using made = await makeDriver(worker, [
      [
        /^systemctl show/,
        'ActiveState=inactive\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n',
      ],
      [/^systemctl/, ''],
      [
        /^k0s reset/,
        ({ line }) => {
          config = readFileSync(`${made.root}${/--config=(\S+)/.exec(line)?.[1]}`, 'utf8')
          return ''
        },
      ],
    ])
    expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
    const { users } = JSON.parse(config).spec.installConfig
    expect(Object.keys(users).toSorted()).toEqual([
      ...['etcdUser', 'kineUser', 'konnectivityUser', 'kubeAPIserverUser', 'kubeSchedulerUser'],
    ])
    expect(new Set(Object.values(users))).toEqual(new Set(['muster-nobody']))
  })

  it.each([
    'I1128 20:52:02.198720     277 bootstrap.go:296] "Failed to connect to apiserver" err="the server has asked for the client to provide credentials"\n'.repeat(
      4,
    ),
    'Error: failed to join controller: failed to join existing cluster via https://10.91.0.10:9443: the server has asked for the client to provide credentials',
  ])('tells a token that the cluster refuses by what k0s 1.34 says: %s', async words => {
    await using made = await makeDriver(worker, [[/^journalctl .*--since/, words], ...running])
    expect(await made.driver.join('op', secretOf(WORKER), { deadlineMs: 60_000 })).toMatchObject({
      class: 'token-refused',
    })
  })

  it('says why no worker of 1.35 comes up on control groups of the first version', async () => {
    const words = 'Error: pre-flight checks failed: Rejected: cgroup v1 is not supported'
    await using made = await makeDriver(worker, [[/^journalctl .*--since/, words], ...running])
    expect(await made.driver.join('op', secretOf(WORKER), { deadlineMs: 60_000 })).toMatchObject({
      class: 'precondition',
    })
  })
})
