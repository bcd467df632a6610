import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'

// The scripts that the units of Kubernetes start, run as they are.
const scripts = join(import.meta.dirname, '../../../nix/modules/clusters/scripts')
const script = (name: string) => join(scripts, name)
const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})
let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'muster-scripts-'))
  folders.push(folder)
})
const run = (...command: readonly string[]) => spawnSync('bash', command, { encoding: 'utf8' })

describe('datastore-guard.sh', () => {
  it('lets a server start that was never a member, and one that has its datastore', () => {
    expect(run(script('datastore-guard.sh'), join(folder, 'member'), join(folder, 'data')).status).toBe(0)
    writeFileSync(join(folder, 'member'), '')
    mkdirSync(join(folder, 'data/snap'), { recursive: true })
    writeFileSync(join(folder, 'data/snap/db'), '')
    expect(run(script('datastore-guard.sh'), join(folder, 'member'), join(folder, 'data')).status).toBe(0)
  })

  it('K7: stops a member whose datastore is gone, and says what to do', () => {
    writeFileSync(join(folder, 'member'), '')
    const { status, stderr } = run(script('datastore-guard.sh'), join(folder, 'member'), join(folder, 'data'))
    expect(status).toBe(1)
    expect(stderr).toContain(`its datastore ${join(folder, 'data')} is gone`)
    expect(stderr).toContain('restore a snapshot')
    expect(stderr).toContain('muster leave HOST --dead')
  })

  it('K7: takes no empty folder for a datastore', () => {
    writeFileSync(join(folder, 'member'), '')
    mkdirSync(join(folder, 'data/wal'), { recursive: true })
    expect(run(script('datastore-guard.sh'), join(folder, 'member'), join(folder, 'data')).status).toBe(1)
  })

  it('stops a server that stood down, whatever its datastore holds', () => {
    writeFileSync(join(folder, 'member'), '')
    writeFileSync(join(folder, 'stood-down'), '')
    mkdirSync(join(folder, 'data/snap'), { recursive: true })
    writeFileSync(join(folder, 'data/snap/db'), '')
    const { status, stderr } = run(script('datastore-guard.sh'), join(folder, 'member'), join(folder, 'data'))
    expect(status).toBe(1)
    expect(stderr).toContain('muster rejoin HOST --wipe')
  })
})

describe('cni-links.sh', () => {
  function addPackage(name: string, programs: readonly string[]): string {
    mkdirSync(join(folder, name, 'bin'), { recursive: true })
    for (const program of programs) {
      writeFileSync(join(folder, name, 'bin', program), '')
      chmodSync(join(folder, name, 'bin', program), 0o755)
    }
    return join(folder, name)
  }

  it('links every program, newer ones over older ones, and takes dead links away', () => {
    const target = join(folder, 'opt/cni/bin')
    const old = addPackage('old', ['bridge', 'host-local', 'gone'])
    expect(run(script('cni-links.sh'), target, old).status).toBe(0)
    const young = addPackage('young', ['bridge', 'host-local'])
    rmSync(join(old, 'bin/gone'))
    expect(run(script('cni-links.sh'), target, young).status).toBe(0)
    expect(readdirSync(target).sort()).toEqual(['bridge', 'host-local'])
    expect(readlinkSync(join(target, 'bridge'))).toBe(join(young, 'bin/bridge'))
  })

  it('K19: leaves what a network put there itself', () => {
    const target = join(folder, 'bin')
    mkdirSync(target)
    writeFileSync(join(target, 'cilium-cni'), 'a program')
    symlinkSync('cilium-cni', join(target, 'alias'))
    expect(run(script('cni-links.sh'), target, addPackage('plugins', ['bridge'])).status).toBe(0)
    expect(readdirSync(target).sort()).toEqual(['alias', 'bridge', 'cilium-cni'])
    expect(readFileSync(join(target, 'cilium-cni'), 'utf8')).toBe('a program')
  })
})

describe('static-pods.sh', () => {
  it('copies every manifest whole, so that the kubelet reads no link and no half', () => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')]
    mkdirSync(from)
    writeFileSync(join(folder, 'real'), '{"kind":"Pod"}')
    symlinkSync(join(folder, 'real'), join(from, 'kube-apiserver.json'))
    expect(run(script('static-pods.sh'), from, to).status).toBe(0)
    expect(readdirSync(to)).toEqual(['kube-apiserver.json'])
    rmSync(join(folder, 'real'))
    expect(readFileSync(join(to, 'kube-apiserver.json'), 'utf8')).toBe('{"kind":"Pod"}')
  })
})

describe('k0s-config.sh', () => {
  it('fills the address into the configuration of k0s, and does so anew at each start', () => {
    const [from, to] = [join(folder, 'from.yaml'), join(folder, 'k0s.yaml')]
    const start = (config: string) => {
      writeFileSync(from, config)
      const { status } = spawnSync('bash', [script('k0s-config.sh'), from, to], {
        env: { ...process.env, MUSTER_NODE_ADDRESS: '10.7.0.2' },
      })
      expect(status).toBe(0)
      return JSON.parse(readFileSync(to, 'utf8'))
    }
    expect(start('{"address":"@node-address@","sans":["n1","@node-address@"]}')).toEqual({
      address: '10.7.0.2',
      sans: ['n1', '10.7.0.2'],
    })
    expect(start('{"address":"@node-address@","port":6444}')).toEqual({ address: '10.7.0.2', port: 6444 })
    expect(readdirSync(folder).sort()).toEqual(['from.yaml', 'k0s.yaml'])
  })

  it('leaves what is there where no address is known', () => {
    const to = join(folder, 'k0s.yaml')
    writeFileSync(to, 'as it was')
    expect(run(script('k0s-config.sh'), '/dev/null', to).status).not.toBe(0)
    expect(readFileSync(to, 'utf8')).toBe('as it was')
  })
})

/** A network of our own, in which interfaces cost nothing. */
const inNetwork = (...lines: readonly string[]) =>
  spawnSync('unshare', ['--map-root-user', '--net', '--mount', 'bash', '-ec', lines.join('\n')], {
    encoding: 'utf8',
  })
const hasNetworks = inNetwork('ip link add v0 type veth peer name v1').status === 0
const whyNot = hasNetworks ? '' : 'skipped: network namespaces cannot be made here'

describe.skipIf(!hasNetworks)(`node-address.sh ${whyNot}`, () => {
  const links = [
    'ip link set lo up',
    'ip link add v0 type veth peer name v1',
    'ip link set v0 up',
    'ip link set v1 up',
  ]
  const address = (name: string) => readFileSync(join(folder, name), 'utf8')
  const node = (...more: readonly string[]) => `bash ${script('node-address.sh')} ${folder} ${more.join(' ')}`

  it('writes the address of the interface for units, etcd and people', () => {
    const { status, stdout } = inNetwork(
      ...links,
      'ip addr add 10.7.0.2/24 dev v0',
      'ip addr add fd00::2/64 dev v0',
      node('v0'),
    )
    expect({ status, stdout }).toEqual({ status: 0, stdout: "the node's address is 10.7.0.2, of v0\n" })
    expect(address('address')).toBe('10.7.0.2\n')
    expect(address('address.env')).toBe(
      'MUSTER_NODE_ADDRESS=10.7.0.2\nMUSTER_NODE_HOST=10.7.0.2\nMUSTER_NODE_INTERFACE=v0\n',
    )
    expect(address('etcd.env')).toContain(
      'ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379,https://10.7.0.2:2379\n',
    )
    expect(readdirSync(folder).sort()).toEqual(['address', 'address.env', 'etcd.env'])
  })

  it('takes the interface of the default route when none is given, and waits until there is one', () => {
    const { status } = inNetwork(
      ...links,
      'ip addr add 10.8.0.9/24 dev v1',
      '(sleep 1.5; ip addr add 10.7.0.2/24 dev v0; ip route add default via 10.7.0.1) &',
      node(),
    )
    expect(status).toBe(0)
    expect(address('address')).toBe('10.7.0.2\n')
  })

  it('waits without end, says every four minutes what for, and goes on once it is there', () => {
    // As if it had run for nearly four minutes.
    const late = (...more: readonly string[]) => `SECONDS=239 timeout 20 ${node(...more)}`
    const { status, stdout, stderr } = inNetwork(
      ...links,
      '(sleep 3; ip addr add 10.7.0.2/24 dev v0) &',
      late('v0'),
    )
    expect({ status, stdout }).toEqual({ status: 0, stdout: "the node's address is 10.7.0.2, of v0\n" })
    expect(stderr.trim().split('\n')).toEqual([
      expect.stringMatching(/^still waiting: no address on v0; .*node-interface/),
    ])
    const named = inNetwork(
      ...links,
      'mount -t tmpfs none /etc',
      "echo 'hosts: files' > /etc/nsswitch.conf",
      "echo '10.8.0.9 n1' > /etc/hosts",
      '(sleep 3; ip addr add 10.8.0.9/24 dev v0) &',
      late("''", 'n1'),
    )
    expect(named.status).toBe(0)
    expect(named.stderr).toMatch(
      /^still waiting: n1 stands for no address of this machine, but for: 10\.8\.0\.9 \n$/,
    )
  })

  it('puts an IPv6 address in brackets where a port follows', () => {
    const { status } = inNetwork(...links, 'ip addr add fd00::7/64 dev v0 nodad', node('v0'))
    expect(status).toBe(0)
    expect(address('address.env')).toContain('MUSTER_NODE_ADDRESS=fd00::7\nMUSTER_NODE_HOST=[fd00::7]\n')
    expect(address('etcd.env')).toContain('ETCD_LISTEN_PEER_URLS=https://[fd00::7]:2380\n')
  })

  it('takes the address that a name stands for, of those that this machine has', () => {
    const hosts = [
      'mount -t tmpfs none /etc',
      "echo 'hosts: files' > /etc/nsswitch.conf",
      // As NixOS has it: every line counts.
      "echo 'multi on' > /etc/host.conf",
      // The first is what NixOS writes of a machine's own name, the second another machine's.
      String.raw`printf '127.0.0.2 n1\n10.7.0.1 n1\n10.8.0.9 n1\nfd00::7 n1\n' > /etc/hosts`,
      'ip addr add 10.7.0.2/24 dev v0',
      'ip addr add fd00::7/64 dev v0 nodad',
    ]
    const late = '(sleep 1.5; ip addr add 10.8.0.9/24 dev v1) &'
    const { status, stdout } = inNetwork(...links, ...hosts, `timeout 20 ${node("''", 'n1')}`)
    expect({ status, stdout }).toEqual({ status: 0, stdout: "the node's address is fd00::7, of v0\n" })
    expect(address('address.env')).toContain('MUSTER_NODE_INTERFACE=v0\n')
    expect(inNetwork(...links, ...hosts, late, `timeout 20 ${node('v1', 'n1')}`).status).toBe(0)
    expect(address('address')).toBe('10.8.0.9\n')
    const unknown = `timeout 3 ${node("''", 'n2')} || echo gave up`
    expect(inNetwork(...links, ...hosts, unknown).stdout).toBe('gave up\n')
  })

  it('has no address that is only this machine’s or still a candidate', () => {
    const text = `ip addr add 169.254.0.1/16 scope link dev v0; timeout 3 ${node('v0')} || echo gave up`
    expect(inNetwork(...links, text).stdout).toBe('gave up\n')
    expect(existsSync(join(folder, 'address'))).toBe(false)
  })
})

it('every script is one that bash understands to the end', () => {
  for (const name of readdirSync(scripts)) execFileSync('bash', ['-n', script(name)])
})
