import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { JoinSecret } from '../driver.ts'
import { AUTHORITY_PEM, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import type { Answer, Ran, Script } from '../testing/scripted-system.ts'
import { keyOfToken } from './token-pair.ts'

const HASH = createHash('sha256').update(AUTHORITY_PEM).digest('hex')
const SECRET = '0123456789abcdef'
const WAIT = { deadlineMs: 300, everyMs: 20 }
const ACTIVE = 'ActiveState=active\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
const TLS = '/var/lib/rancher/k3s/server/tls'

const tokenSecrets = (
  ...tokens: readonly { id: string; description: string; expiration?: string }[]
): string =>
  JSON.stringify({
    items: tokens.map(({ id, description, expiration = '2026-11-28T12:10:00Z' }) => ({
      metadata: { name: `bootstrap-token-${id}` },
      data: Object.fromEntries(
        Object.entries({ 'token-id': id, description, expiration }).map(([key, value]) => [
          key,
          Buffer.from(value).toString('base64'),
        ]),
      ),
    })),
  })
const NOT_FOUND: Answer = {
  exitCode: 1,
  stderr: 'Error from server (NotFound): the server could not find it',
}

/** systemd and a k3s whose API is ready. */
const running: Script = [
  [/^systemctl show/, ACTIVE],
  [/^systemctl/, ''],
  [/^journalctl/, ''],
  [/^k3s kubectl get --raw \/readyz/, 'ok'],
]
/** A server that has just started may say it once of a token that it takes. */
const NOT_AUTHORIZED =
  'level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: not authorized"'
const worker = { role: 'worker', nodeName: 'n4', nodeAddress: '10.91.0.13' } as const
const secretOf = (token: string, change: Partial<JoinSecret> = {}): JoinSecret => ({
  distribution: 'k3s',
  role: 'worker',
  server: '10.91.0.10:6443',
  token,
  agentToken: undefined,
  files: new Map(),
  initialCluster: undefined,
  ...change,
})

describe('the driver of k3s', () => {
  it('founds with embedded etcd, so that servers can be added, and leads its unit elsewhere afterwards', async () => {
    let atStart = ''
    await using made = await makeDriver(
      {},
      [
        [
          /^systemctl start --no-block k3s\.service$/,
          () => {
            atStart = 'started'
            return ''
          },
        ],
        ...running,
      ],
      [member('n1-0123abcd')],
    )
    await made.put(`${TLS}/server-ca.crt`, '')
    const early = await made.driver.found('op', WAIT)
    expect(early).toMatchObject({ kind: 'failed', class: 'unreadable' })
    expect(atStart).toBe('started')
    await made.put(`${TLS}/server-ca.crt`, AUTHORITY_PEM)
    const token = await made.files.get('token')
    const ended = await made.driver.found('op', WAIT)
    expect(ended).toMatchObject({
      kind: 'done',
      value: { authority: expect.stringMatching(/^[0-9a-f]{64}$/) },
    })
    expect(await made.files.get('token')).toBe(token)
    expect(await made.files.get('start.env')).toBe('K3S_URL=https://10.91.0.11:6443\n')
    expect(await made.files.readMark('member')).toBe('')
    expect(await made.files.readMark('begun')).toBeUndefined()
    expect(made.asked[0]?.client.cert).toBe(`${TLS}/etcd/client.crt`)
  })

  it('founds over nothing: data of a cluster that it did not begin is refused, whoever made it', async () => {
    await using made = await makeDriver({}, running)
    await made.put('/var/lib/k0s/pki/ca.key', 'x')
    await made.put('/var/lib/k0s/pki/ca.crt', AUTHORITY_PEM)
    expect(await made.driver.found('op', WAIT)).toMatchObject({ class: 'data-present' })
    expect(await made.driver.join('op', secretOf(`K10${HASH}::abcdef.${SECRET}`), WAIT)).toMatchObject({
      class: 'data-present',
    })
    expect(made.system.ran).toEqual([])
  })

  it('K4: mints a token for minutes, says whom for, and deletes what the same operation got before', async () => {
    const lists = [
      tokenSecrets(
        { id: 'old000', description: 'muster op1 for n4' },
        { id: 'oth000', description: 'muster op10 for n5' },
      ),
    ]
    await using made = await makeDriver({}, [
      [/secrets\?fieldSelector/, () => lists.shift() ?? tokenSecrets()],
      [/^k3s kubectl delete --raw/, ''],
      [/^k3s token create/, `abcdef.${SECRET}\n`],
    ])
    await made.put(`${TLS}/server-ca.crt`, AUTHORITY_PEM)
    const request = {
      operation: 'op1',
      node: 'n4',
      role: 'worker',
      address: '10.91.0.13',
      machineId: undefined,
    } as const
    const minted = await made.driver.cluster.mint({ ...request, lifetimeMs: 600_000 })
    expect(minted).toMatchObject({
      kind: 'done',
      value: {
        tokenId: 'abcdef',
        secret: { server: '10.91.0.10:6443', token: `K10${HASH}::abcdef.${SECRET}` },
      },
    })
    const lines = made.system.ran.map(({ line }) => line)
    expect(lines).toContain('k3s token create --ttl=600s --description=muster op1 for n4')
    expect(lines.filter(line => line.includes('delete'))).toEqual([
      'k3s kubectl delete --raw /api/v1/namespaces/kube-system/secrets/bootstrap-token-old000 -f - --request-timeout=20s',
    ])
  })

  it('gives a server the permanent token, since there is no other, and nothing that could be deleted', async () => {
    // Behind an endpoint may be a server that takes another one yet.
    await using made = await makeDriver({ endpoint: '10.91.0.9' }, [])
    await made.put(`${TLS}/server-ca.crt`, AUTHORITY_PEM)
    await made.put('/var/lib/rancher/k3s/server/token', `K10${HASH}::server:pw\n`)
    await made.files.put('agent-token', 'agents')
    const request = {
      operation: 'op1',
      node: 'n2',
      role: 'server',
      address: '10.91.0.11',
      machineId: undefined,
    } as const
    expect(await made.driver.cluster.mint({ ...request, lifetimeMs: 600_000 })).toMatchObject({
      value: {
        tokenId: '',
        secret: { server: '10.91.0.10:6443', token: `K10${HASH}::server:pw`, agentToken: 'agents' },
      },
    })
    expect(await made.driver.cluster.deleteToken('')).toEqual({ kind: 'done', value: undefined })
    expect(made.system.ran).toEqual([])
  })

  it('K12, K13: joins a worker by a URL, and leaves a token of the same form that opens nothing', async () => {
    let given = ''
    await using made = await makeDriver(worker, [
      [
        /^systemctl start/,
        () => {
          given = 'started'
          return ''
        },
      ],
      ...running,
    ])
    await made.put('/var/lib/rancher/k3s/agent/kubelet.kubeconfig', '')
    const joined = made.driver.join('op', secretOf(`K10${HASH}::abcdef.${SECRET}`), {
      ...WAIT,
      deadlineMs: 20_000,
    })
    await expect.poll(() => given).toBe('started')
    expect(await made.files.get('token')).toBe(`K10${HASH}::abcdef.${SECRET}`)
    expect(await made.files.get('start.env')).toBe('K3S_URL=https://10.91.0.10:6443\n')
    await made.put('/var/lib/rancher/k3s/agent/server-ca.crt', AUTHORITY_PEM)
    await made.put('/var/lib/rancher/k3s/agent/client-kubelet.crt', '')
    expect(await joined).toMatchObject({ kind: 'done' })
    expect(await made.files.get('token')).toBe(`K10${HASH}::spent0.0000000000000000`)
    expect(await made.read('/state/sealed/token')).toContain('sealed token')
  })

  it.each([
    ['level=error msg="... server is not ready: ... 401 Unauthorized"', 'token-refused'],
    [`${NOT_AUTHORIZED}\n${NOT_AUTHORIZED}`, 'token-refused'],
    [
      'level=fatal msg="Error: starting kubernetes: preparing server: failed to bootstrap cluster data: not authorized"',
      'token-refused',
    ],
    [
      'level=error msg="Shutdown request received: \\"etcd cluster join failed: duplicate node name found, please use a unique name for this node\\""',
      'name-taken',
    ],
    ['level=warning msg="critical configuration mismatched: cluster-cidr"', 'precondition'],
    ['level=fatal msg="bootstrap data already found and encrypted with different token"', 'token-refused'],
    ['Node password rejected, duplicate hostname or contents of /etc/rancher/node/password', 'name-taken'],
  ])('Q1, Q6, Q7: waits no longer when k3s says: %s', async (words, kind) => {
    await using made = await makeDriver(worker, [[/^journalctl .*--since/, words], ...running])
    const joined = await made.driver.join('op', secretOf(`K10${HASH}::abcdef.${SECRET}`), {
      deadlineMs: 60_000,
    })
    expect(joined).toMatchObject({ kind: 'failed', class: kind })
    expect(await made.files.readMark('begun')).toBe('op')
  })

  it('Q1: waits on when k3s says once that it does not take a token', async () => {
    await using made = await makeDriver(worker, [[/^journalctl .*--since/, NOT_AUTHORIZED], ...running])
    const joined = await made.driver.join('op', secretOf(`K10${HASH}::abcdef.${SECRET}`), WAIT)
    expect(joined).toMatchObject({ kind: 'failed', class: 'timed-out' })
  })

  it('K2: takes no unit that is active for a node that joined', async () => {
    await using made = await makeDriver(worker, running)
    const joined = await made.driver.join('op', secretOf(`K10${HASH}::abcdef.${SECRET}`), WAIT)
    expect(joined).toMatchObject({
      class: 'timed-out',
      reason: expect.stringContaining('k3s.service is active'),
    })
  })

  it.each([
    ['that pins no authority', `abcdef.${SECRET}`],
    ['of a server', `K10${HASH}::server:pw`],
  ])('refuses a worker a token %s, before anything starts', async (_, token) => {
    await using made = await makeDriver(worker, running)
    expect(await made.driver.join('op', secretOf(token), WAIT)).toMatchObject({ class: 'token-refused' })
    expect(made.system.ran.some(({ line }) => line.startsWith('systemctl start'))).toBe(false)
  })

  it('K16: takes a dead server out by its member, and forgets node and password', async () => {
    const members = [
      member('n1-00000001'),
      member('n2-00000002', { healthy: false, peerUrls: ['https://10.91.0.11:2380'] }),
      member('n3-00000003'),
    ]
    await using made = await makeDriver(
      {},
      [
        [/get --raw \/api\/v1\/nodes\/n2/, NOT_FOUND],
        [/delete --raw/, NOT_FOUND],
      ],
      members,
    )
    expect(await made.driver.cluster.removeNode('n2', WAIT)).toEqual({ kind: 'done', value: undefined })
    expect(members.map(({ name }) => name)).toEqual(['n1-00000001', 'n3-00000003'])
    expect(made.system.ran.map(({ line }) => line)).toContain(
      'k3s kubectl delete --raw /api/v1/namespaces/kube-system/secrets/n2.node-password.k3s -f - --request-timeout=20s',
    )
  })

  it('T39: takes no server out when the datastore would lose its majority', async () => {
    const members = [member('n1-00000001'), member('n2-00000002'), member('n3-00000003', { healthy: false })]
    await using made = await makeDriver({}, [[/nodes\/n2/, NOT_FOUND]], members)
    expect(await made.driver.cluster.removeNode('n2', WAIT)).toMatchObject({ class: 'quorum' })
    expect(members).toHaveLength(3)
    expect(await made.driver.cluster.removeNode('n1', WAIT)).toMatchObject({ class: 'precondition' })
  })

  it('restores only with the token of the snapshot’s time, and without a server to join', async () => {
    await using made = await makeDriver(
      {},
      [
        [/^k3s server --cluster-reset/, ''],
        [/^systemctl show/, ACTIVE.replace('active', 'inactive')],
        ...running,
      ],
      [member('n1-00000001')],
    )
    await made.put('/var/lib/rancher/k3s/server/db/etcd/member/wal', 'x')
    await made.put('/var/lib/rancher/k3s/server/tls/server-ca.crt', AUTHORITY_PEM)
    const restore = async (name: string) => await made.driver.cluster.restore({ operation: 'op', name }, WAIT)
    expect(await restore('none')).toMatchObject({ class: 'not-found' })
    await made.putSnapshot('s1', { 's1-n1-1': 'etcd' })
    expect(await restore('s1')).toMatchObject({ class: 'unreadable' })
    await made.put('/state/snapshots/s1/token', `K10${HASH}::server:old\n`)
    expect(await restore('s1')).toMatchObject({ kind: 'done' })
    expect(await made.files.get('token')).toBe(`K10${HASH}::server:old`)
    expect(await made.files.get('start.env')).toBe('K3S_CLUSTER_INIT=true\n')
    expect(made.system.ran.map(({ line }) => line)).toContain(
      'k3s server --cluster-reset --cluster-reset-restore-path=/state/snapshots/s1/s1-n1-1 --token-file=/run/muster-cluster/restore-token --node-name=n1 --node-ip=10.91.0.10',
    )
  })

  it('Q3: asks k3s for a snapshot, and resets it, at the port where it listens', async () => {
    let root = ''
    await using made = await makeDriver(
      { apiPort: 16_443 },
      [
        [
          /^k3s etcd-snapshot save/,
          ({ line }) => {
            writeFileSync(`${root}${/--etcd-snapshot-dir=(\S+)/.exec(line)?.[1]}/s1-n1-1`, 'etcd')
            return ''
          },
        ],
        [/^k3s server --cluster-reset/, ''],
        [/^systemctl show/, ACTIVE.replace('active', 'inactive')],
        ...running,
      ],
      [member('n1-00000001')],
      { keys: [keyOfToken('pw')] },
    )
    root = made.root
    await made.put('/var/lib/rancher/k3s/server/db/etcd/member/wal', 'x')
    await made.put('/var/lib/rancher/k3s/server/tls/server-ca.crt', AUTHORITY_PEM)
    await made.put('/var/lib/rancher/k3s/server/token', `K10${HASH}::server:pw\n`)
    await made.files.put('agent-token', 'agents')
    expect(await made.driver.cluster.snapshot('s1', WAIT)).toMatchObject({ kind: 'done' })
    expect(await made.driver.cluster.restore({ operation: 'op', name: 's1' }, WAIT)).toMatchObject({
      kind: 'done',
    })
    const lines = made.system.ran.map(({ line }) => line).join('\n')
    expect(lines).toMatch(/^k3s etcd-snapshot save .*--etcd-server=https:\/\/127\.0\.0\.1:16443$/m)
    expect(lines).toMatch(/^k3s server --cluster-reset .*--https-listen-port=16443$/m)
  })

  it('shows a secret in no command line and in no failure', async () => {
    const leaky: Answer = {
      exitCode: 1,
      stderr: `cannot use K10${HASH}::abcdef.${SECRET} with token=${SECRET}`,
    }
    await using made = await makeDriver(worker, [[/^systemctl start/, leaky], ...running])
    const joined = await made.driver.join('op', secretOf(`K10${HASH}::abcdef.${SECRET}`), WAIT)
    const told = JSON.stringify([joined, made.system.ran.map(({ line }: Ran) => line)])
    expect(joined.kind).toBe('failed')
    expect(told).not.toContain(SECRET)
    expect(told).not.toContain(HASH)
  })
})
