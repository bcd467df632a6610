import { describe, expect, it } from 'vitest'
import type { ClusterFacts, Distribution, NodeRole } from './cluster-facts.ts'
import { authorityId } from './node/certificates.ts'
import { AUTHORITY_PEM, type DriverFixture, makeDriver } from './testing/driver-fixture.ts'
import type { Script } from './testing/scripted-system.ts'

const PROGRAMS = [
  ...['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubeadm', 'kubectl', 'kubelet'],
  ...['k3s', 'k3s-killall.sh', 'k0s'],
]
const USERS = ['kubernetes', 'etcd', 'kube-apiserver', 'kube-scheduler', 'konnectivity-server']
const PORTS = [6443, 9443, 2379, 2380, 10250]

/** What a machine is like; a change makes one of its things another one, `undefined` takes it away. */
const WELL: Readonly<Record<string, string>> = {
  '/etc/passwd': `root:x:0:0::/:/bin/sh\n${USERS.map(name => `${name}:x:9:9::/:/bin/sh\n`).join('')}`,
  '/proc/net/tcp': '  sl  local_address\n',
  '/proc/filesystems': 'nodev\tproc\nnodev\toverlay\n\text4\n',
  '/sys/module/br_netfilter/refcnt': '0\n',
  '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  '/proc/sys/kernel/hostname': 'n1\n',
  '/etc/machine-id': `${'0123456789abcdef'.repeat(2)}\n`,
  ...Object.fromEntries(PROGRAMS.map(name => [`/opt/bin/${name}`, ''])),
}
const listening = (ports: readonly number[]): string =>
  `  sl  local_address\n${ports
    .map(port => `   0: 00000000:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A 0\n`)
    .join('')}`

interface Machine {
  readonly files?: Readonly<Record<string, string | undefined>>
  readonly address?: string
  readonly clock?: string
  readonly facts?: Partial<ClusterFacts>
}

async function machine(
  distribution: Distribution,
  role: NodeRole,
  change: Machine = {},
): Promise<DriverFixture> {
  const isServer = role !== 'worker'
  const parts = isServer ? ['etcd.service', 'kube-apiserver.service'] : []
  const units = {
    k3s: ['k3s.service'],
    k0s: ['k0s.service'],
    kubernetes: [...parts, 'kubelet.service'],
    components: [...parts, ...(role === 'server' ? [] : ['kubelet.service'])],
  }[distribution]
  const addresses = [{ ifname: 'eth0', addr_info: [{ local: change.address ?? '10.91.0.10' }] }]
  const script: Script = [
    [/^ip -j address show$/, JSON.stringify(addresses)],
    [/^timedatectl/, change.clock ?? 'NTP=yes\nNTPSynchronized=yes\n'],
  ]
  const made = await makeDriver(
    { distribution, role, units, programs: ['/opt/bin'], ...change.facts },
    script,
  )
  for (const [path, text] of Object.entries({ ...WELL, ...change.files }))
    if (text !== undefined) await made.put(path, text)
  return made
}

const told = async (made: DriverFixture): Promise<string[]> =>
  (await made.driver.checkPreconditions()).map(({ what, reason }) => `${what}: ${reason}`)

const AUTHORITY = authorityId(Buffer.from(AUTHORITY_PEM)) ?? ''

const ROLES = ['server', 'worker', 'server+worker'] as const
const ALL = (['k3s', 'k0s', 'kubernetes', 'components'] as const).flatMap(distribution =>
  ROLES.map(role => [distribution, role] as const),
)

describe('what is missing on a machine', () => {
  it.each(ALL)('%s, %s: is nothing where all is there', async (distribution, role) => {
    await using made = await machine(distribution, role)
    expect(await told(made)).toEqual([])
    // It changes nothing.
    expect(made.system.ran.map(({ line }) => line)).toEqual([
      ...['ip -j address show', 'timedatectl show --property=NTP,NTPSynchronized'],
    ])
    expect(await made.files.list('/state')).toEqual([])
  })

  it.each<[string, Machine, RegExp]>([
    [
      'data elsewhere',
      { files: { '/etc/rancher/k3s/config.yaml.d/a.yaml': 'disable: [traefik]\ndata-dir: /srv\n' } },
      /^datastore: .*a\.yaml says data-dir/,
    ],
    ['a kernel module', { files: { '/proc/filesystems': 'nodev\tproc\n' } }, /^module: .*overlay/],
    ['another one', { files: { '/sys/module/br_netfilter/refcnt': undefined } }, /^module: .*br_netfilter/],
    [
      'a control group',
      { files: { '/sys/fs/cgroup/cgroup.controllers': 'cpu memory pids\n' } },
      /^cgroup: .*cpuset/,
    ],
    ['its host name', { files: { '/proc/sys/kernel/hostname': 'nixos\n' } }, /^host-name: .*named nixos/],
    ['a machine id', { files: { '/etc/machine-id': 'uninitialized\n' } }, /^machine-id: /],
    ['its address', { address: '10.91.0.99' }, /^address: 10\.91\.0\.10 is no address of this machine/],
    [
      'an address that no other server has',
      { facts: { servers: new Map([['n2', '10.91.0.10']]) } },
      /^address: .*another server/,
    ],
    [
      'an address that is known',
      { facts: { nodeAddress: undefined } },
      /^address: .*muster-node-address\.service/,
    ],
    ['the time', { clock: 'NTP=yes\nNTPSynchronized=no\n' }, /^clock: /],
    ['the program', { files: { '/opt/bin/k3s': undefined } }, /^program: .*k3s/],
    ['a view of its ports', { files: { '/proc/net/tcp': undefined } }, /^port: .*cannot be read/],
  ])('is said alone where it is the only thing: %s', async (_, change, words) => {
    await using made = await machine('k3s', 'server+worker', change)
    expect(await told(made)).toEqual([expect.stringMatching(words)])
  })

  it.each(ALL)('%s, %s: is said all at once', async (distribution, role) => {
    const files = Object.fromEntries(Object.keys(WELL).map(path => [path, undefined]))
    await using made = await machine(distribution, role, {
      files: { ...files, '/proc/net/tcp': listening(PORTS) },
      address: '10.0.0.1',
      clock: 'NTP=yes\nNTPSynchronized=no\n',
    })
    const isServer = role !== 'worker'
    const hasPods = role !== 'server' || distribution === 'k3s' || distribution === 'kubernetes'
    const parts = [
      'etcd',
      'kube-apiserver',
      'kube-controller-manager',
      'kube-scheduler',
      'kubeadm',
      'kubectl',
    ]
    const own = [...(isServer ? parts : []), ...(hasPods ? ['kubelet'] : [])]
    const programs = { k3s: ['k3s', 'k3s-killall.sh'], k0s: ['k0s'], kubernetes: own, components: own }[
      distribution
    ]
    const users = {
      k3s: [],
      k0s: isServer ? ['etcd', 'kube-apiserver', 'kube-scheduler', 'konnectivity-server'] : [],
      kubernetes: isServer ? ['kubernetes', 'etcd'] : ['kubernetes'],
      components: [],
    }[distribution]
    const ports = [
      ...(isServer ? [6443, ...(distribution === 'k0s' ? [9443] : []), 2379, 2380] : []),
      ...(hasPods ? [10250] : []),
    ]
    const said = await told(made)
    const named = (what: string, pattern: RegExp) =>
      said.flatMap(text => (text.startsWith(`${what}: `) ? [pattern.exec(text)?.[1] ?? text] : []))
    expect(named('user', /no user (\S+):/)).toEqual(users)
    expect(named('program', /no program (\S+) in/)).toEqual(programs)
    expect(named('port', /port (\d+) is taken/)).toEqual(ports.map(String))
    expect(said.filter(text => /^(module|cgroup): /.test(text))).toHaveLength(hasPods ? 3 : 0)
    for (const what of ['host-name', 'machine-id', 'address', 'clock'])
      expect(named(what, /(.)/)).toHaveLength(1)
  })

  it.each([
    ['server', true],
    ['server+worker', true],
    ['worker', false],
  ] as const)('is an etcd of its own on a server of components: %s', async (role, wanted) => {
    const units = ['kube-apiserver.service', 'kubelet.service']
    await using made = await machine('components', role, { facts: { units } })
    const refused = /no etcd runs on this server.*leave etcd\.enable alone/
    expect(await told(made)).toEqual(wanted ? [expect.stringMatching(refused)] : [])
    // Nor is such a one adopted, whatever lies on its disk.
    await made.put('/var/lib/kubernetes/pki/ca.crt', AUTHORITY_PEM)
    await made.put('/var/lib/kubernetes/pki/ca.key', 'x')
    const adopted = await made.driver.adopt(AUTHORITY)
    if (wanted)
      expect(adopted).toMatchObject({ class: 'precondition', reason: expect.stringMatching(refused) })
    else expect(adopted).not.toMatchObject({ reason: expect.stringMatching(refused) })
  })

  it('is also room: data of any cluster is named, with what can be done, but not that of an attempt of ours', async () => {
    await using made = await machine('k3s', 'server')
    await made.put('/var/lib/k0s/pki/ca.key', 'x')
    expect(await told(made)).toEqual([expect.stringMatching(/^data: .*adopt that cluster, or wipe/)])
    await made.put('/var/lib/k0s/pki/ca.crt', AUTHORITY_PEM)
    expect(await told(made)).toEqual([
      expect.stringMatching(/^data: data of a cluster of k0s lies on the disk/),
    ])
    await made.files.mark('begun', 'op')
    expect(await told(made)).toEqual([])
  })
})
