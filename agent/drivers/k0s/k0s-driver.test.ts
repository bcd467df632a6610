import { readFileSync, writeFileSync } from 'node:fs'
import { gunzipSync, gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { isObject, type JsonObject } from '../../../shared/read-value.ts'
import { deleteToken } from '../../clusters/acts/tokens.ts'
import type { JoinSecret } from '../driver.ts'
import { AUTHORITY_PEM, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import type { Script } from '../testing/scripted-system.ts'
import { joinUrl } from './k0s-mint.ts'
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
/** As k0s writes it; its end and uses are left out. */
const SECRET_FILE = `apiVersion: v1
data:
  token-id: YWJjZGVm
  token-secret: ${Buffer.from(SECRET).toString('base64')}
kind: Secret
metadata:
  name: bootstrap-token-abcdef
  namespace: kube-system
type: bootstrap.kubernetes.io/token
`
const asObject = (value: unknown): JsonObject => (isObject(value) ? value : {})
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

  it('K12: spent is of the same form, since a version parses it at every start', () => {
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

  describe('mints', () => {
    const request = {
      operation: 'op1',
      node: 'n2',
      role: 'server',
      address: '10.91.0.11',
      machineId: undefined,
      lifetimeMs: 600_000,
    } as const
    const READY = {
      ClusterConfig: { spec: { api: { address: '10.91.0.10', port: 6443, k0sApiPort: 9443 } } },
    }

    /** A server of k0s with the tokens of its cluster; a step of the mint breaks when it is named. */
    async function makeServer(status: object, breaks?: 'status' | 'pre-shared' | 'create' | 'answer') {
      const tokens = new Map<string, JsonObject>()
      const broken = { exitCode: 1, stderr: 'etcdserver: request timed out' }
      const made = await makeDriver(k0s, [
        [
          /secrets\?fieldSelector/,
          () =>
            JSON.stringify({
              items: [...tokens].map(([id, { data, stringData }]) => {
                const texts = Object.entries({ 'token-id': id, ...asObject(stringData) })
                const encoded = texts.map(([key, text]) => [key, Buffer.from(`${text}`).toString('base64')])
                return { data: { ...asObject(data), ...Object.fromEntries(encoded) } }
              }),
            }),
        ],
        [/^k0s status/, breaks === 'status' ? broken : JSON.stringify(status)],
        [
          /^k0s token pre-shared/,
          ({ line }) => {
            if (breaks === 'pre-shared') return broken
            const folder = `${made.root}${/--out=(\S+)/.exec(line)?.[1]}`
            writeFileSync(`${folder}/token_abcdef`, line.includes('role=worker') ? WORKER : CONTROLLER)
            writeFileSync(`${folder}/bootstrap-token-abcdef.yaml`, SECRET_FILE)
            return ''
          },
        ],
        [
          /^k0s kubectl create --raw/,
          ({ input }) => {
            if (breaks === 'create') return broken
            tokens.set('abcdef', JSON.parse(input))
            return breaks === 'answer' ? broken : input
          },
        ],
        [
          /^k0s kubectl delete --raw/,
          ({ line }) => {
            tokens.delete(/bootstrap-token-(\w+)/.exec(line)?.[1] ?? '')
            return ''
          },
        ],
      ])
      return { made, tokens }
    }

    it('K4, R10: with an end, and says from the first moment whom for', async () => {
      const { made, tokens } = await makeServer(READY)
      await using _ = made
      expect(await made.driver.cluster.mint(request)).toMatchObject({
        kind: 'done',
        value: { tokenId: 'abcdef', secret: { token: CONTROLLER } },
      })
      const line = made.system.ran.map(ran => ran.line).find(each => each.includes('pre-shared'))
      expect(line).toContain(
        '--role=controller --cert=/var/lib/k0s/pki/ca.crt --url=https://10.91.0.10:9443 ',
      )
      expect(line).toContain(' --valid=600s ')
      expect(tokens.get('abcdef')).toMatchObject({
        type: 'bootstrap.kubernetes.io/token',
        stringData: { description: 'muster op1 for n2' },
      })
      // What k0s prepared lies nowhere any more, and no argument showed it.
      expect(await made.files.list('/run/muster-cluster/minting')).toEqual([])
      expect(made.system.ran.some(ran => ran.line.includes(SECRET))).toBe(false)
    })

    it.each(['status', 'pre-shared', 'create', 'answer'] as const)(
      'R10: nothing that its deletion would not find, when this breaks: %s',
      async breaks => {
        const { made, tokens } = await makeServer(READY, breaks)
        await using _ = made
        expect(await made.driver.cluster.mint(request)).toMatchObject({ kind: 'failed' })
        expect(tokens.size).toBe(breaks === 'answer' ? 1 : 0)
        expect(await made.files.list('/run/muster-cluster/minting')).toEqual([])
        // Nobody was told an id of it.
        expect(await deleteToken(made.driver, 'op1', [], new AbortController().signal)).toMatchObject({
          kind: 'done',
        })
        expect([...tokens.keys()]).toEqual([])
      },
    )

    it.each([
      [{ ...READY, SingleNode: true }, 'single'],
      [{ ClusterConfig: { spec: { ...READY.ClusterConfig.spec, storage: { type: 'kine' } } } }, 'not etcd'],
      [{ ClusterConfig: null }, 'no address'],
    ])('nothing where nothing could join: %o', async (status, reason) => {
      const { made, tokens } = await makeServer(status)
      await using _ = made
      expect(await made.driver.cluster.mint(request)).toMatchObject({
        kind: 'failed',
        reason: expect.stringContaining(reason),
      })
      expect(tokens.size).toBe(0)
    })

    it.each([
      [{ address: '10.0.0.1' }, 'controller', 'https://10.0.0.1:9443'],
      [{ address: '10.0.0.1', port: 6444 }, 'worker', 'https://10.0.0.1:6444'],
      [{ address: 'fd00::1', externalAddress: '' }, 'worker', 'https://[fd00::1]:6443'],
      [{ address: '10.0.0.1', externalAddress: 'api.example' }, 'controller', 'https://api.example:9443'],
      [{ address: '10.0.0.1', externalAddress: 'fd00::2' }, 'worker', 'https://[fd00::2]:6443'],
      [{ address: '10.0.0.1', externalAddress: 'api.example:444' }, 'worker', 'https://api.example:444'],
    ] as const)('tokens that are shown where k0s would have them shown: %o to a %s', (api, kind, url) => {
      expect(joinUrl(api, kind)).toBe(url)
    })
  })

  it('R5: believes no deletion that a listing does not show', async () => {
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

  it('R2: a healthy worker is told by what it was given, not by what k0s says of its connection', async () => {
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

  it('K1: says that a condition holds the unit back, instead of waiting for nothing', async () => {
    const held = 'ActiveState=inactive\nConditionResult=no\nConditionTimestampMonotonic=5\nResult=success\n'
    await using made = await makeDriver(worker, [[/^systemctl show/, held], ...running])
    expect(await made.driver.join('op', secretOf(WORKER), WAIT)).toMatchObject({
      class: 'timed-out',
      reason: expect.stringContaining('a condition of it does not hold'),
    })
  })

  it('R7: counts the majority itself before it has a controller leave, for k0s counts nothing', async () => {
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
    ['# k0s_managed=true\nversion = 2\n', ''],
    ['version = 2\n', 'version = 2\n'],
  ])(
    'R13: takes the configuration of containerd that k0s wrote, and nobody else’s: %j',
    async (text, left) => {
      const path = '/etc/k0s/containerd.toml'
      const stopped =
        'ActiveState=inactive\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
      await using made = await makeDriver(worker, [
        [/^systemctl show/, stopped],
        [/./, ''],
      ])
      await made.put(path, text)
      expect(await made.driver.wipe()).toMatchObject({ kind: 'done' })
      expect(await made.read(path).catch(() => '')).toBe(left)
    },
  )

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

  it('R1: says why no worker of 1.35 comes up on control groups of the first version', async () => {
    const words = 'Error: pre-flight checks failed: Rejected: cgroup v1 is not supported'
    await using made = await makeDriver(worker, [[/^journalctl .*--since/, words], ...running])
    expect(await made.driver.join('op', secretOf(WORKER), { deadlineMs: 60_000 })).toMatchObject({
      class: 'precondition',
    })
  })
})
