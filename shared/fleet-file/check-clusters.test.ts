import { describe, expect, it } from 'vitest'
import { parseNetwork } from './address.ts'
import { formatProblems } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'

/** Problems of a cluster of one server with these lines in [clusters.c], whose first is line 6; [hosts.a] follows. */
function problems(cluster: string, host = '', life = 'apart'): string {
  const text = `[fleet]
name = "home"
id = "5f1c0a7be2d94c3386a1f0d2b7c4e895"
[clusters.c]
distribution = "k3s"
${cluster}
life = "${life}"
[hosts.a]
role = "server"
cluster = "c"
address = "10.0.0.2"
prefix-length = 24
interface = "eth0"
${host}
`
  return formatProblems(readFleetFile(text, 'fleet.toml').problems)
}

describe('networks of a cluster', () => {
  it.each([
    'pod-cidr = "10.244.0.0/16"\nservice-cidr = "10.96.0.0/12"',
    'pod-cidr = "fd00:10::/48"\nservice-cidr = "fd00:96::/112"',
    'service-cidr = "10.43.0.0/16"',
    'pod-cidr = "192.168.4.0/24"',
  ])('takes %j', lines => {
    expect(problems(lines)).toBe('')
  })

  it.each([
    [
      'pod-cidr = "10.244.0.1/16"',
      '6:12: error: clusters.c.pod-cidr: "10.244.0.1/16" is no network: write the first',
    ],
    ['pod-cidr = "10.244.0.0"', 'is no network'],
    ['service-cidr = "10.96.0.0/33"', 'is no network'],
    ['service-cidr = "10.96.0.0/012"', 'is no network'],
    ['pod-cidr = "10.244.0.0/25"', 'is too small: each node gets a /24 of it'],
    ['service-cidr = "10.0.0.0/8"', 'write a prefix length from 12 to 28'],
    ['service-cidr = "10.96.0.0/29"', 'write a prefix length from 12 to 28'],
    ['service-cidr = "fd00:96::/64"', 'write a prefix length from 108 to 124'],
    ['pod-cidr = "10.96.0.0/16"\nservice-cidr = "10.96.128.0/17"', 'overlaps pod-cidr 10.96.0.0/16'],
    ['pod-cidr = "10.96.128.0/17"\nservice-cidr = "10.96.0.0/16"', 'overlaps pod-cidr 10.96.128.0/17'],
    ['pod-cidr = "10.244.0.0/16"\nservice-cidr = "fd00:96::/112"', 'another address family than pod-cidr'],
    ['pod-cidr = "10.0.0.0/16"', '10.0.0.0/16 holds the address of host "a"'],
    ['service-cidr = "10.0.0.0/24"', '10.0.0.0/24 holds the address of host "a"'],
  ])('refuses %j', (lines, message) => {
    expect(problems(lines)).toContain(message)
  })

  it('reads a network only without bits behind its prefix', () => {
    expect(parseNetwork('0.0.0.0/0')?.prefixLength).toBe(0)
    expect(parseNetwork('10.0.0.0/8/8')).toBeUndefined()
    expect(parseNetwork('fd00::1/128')?.prefixLength).toBe(128)
    expect(parseNetwork('fd00::1/127')).toBeUndefined()
  })
})

describe('several servers', () => {
  const three = (distribution: string, more = '', role = 'server+worker') => {
    const head = '[fleet]\nname = "home"\nid = "5f1c0a7be2d94c3386a1f0d2b7c4e895"'
    const host = (name: string, as: string) => `[hosts.${name}]\nrole = "${as}"\ncluster = "c"`
    const hosts = [host('a', 'server'), host('b', role), host('d', role)].join('\n')
    const text = `${head}\n[clusters.c]\ndistribution = "${distribution}"\n${more}\n${hosts}\n`
    return formatProblems(readFleetFile(text, 'fleet.toml').problems)
  }

  it.each(['k0s', 'kubernetes', 'components'])(
    'of %s without an endpoint are warned about: nodes keep the address of the one that let them in',
    distribution => {
      const said = three(distribution)
      expect(said).toMatch(/^fleet\.toml:4:11: warning: clusters\.c: has 3 servers and no endpoint: /)
      expect(said).toContain(
        '; write endpoint = "ADDRESS", of a load balancer or, with endpoint-keeper = "servers"',
      )
      expect(three(distribution, 'endpoint = "c.home"')).toBe('')
      expect(three(distribution, '', 'worker')).toBe('')
    },
  )

  it('of k3s need none: each node balances for itself', () => {
    expect(three('k3s')).toBe('')
  })
})

describe('an endpoint that the servers keep', () => {
  it('is a free address in their network', () => {
    expect(problems('endpoint = "10.0.0.9"\nendpoint-keeper = "servers"')).toBe('')
    expect(problems('endpoint = "c.home"\nendpoint-keeper = "outside"')).toBe('')
  })

  it.each([
    ['endpoint-keeper = "servers"', 'endpoint is none; write endpoint = "ADDRESS"'],
    ['endpoint = "c.home"\nendpoint-keeper = "servers"', 'the servers can keep an address only'],
    ['endpoint = "10.0.0.2"\nendpoint-keeper = "servers"', '10.0.0.2 is the address of host "a"'],
    ['endpoint = "10.0.1.9"\nendpoint-keeper = "servers"', '10.0.1.9 is outside the network of host "a"'],
  ])('is nothing else: %j', (lines, message) => {
    expect(problems(lines)).toContain(message)
  })

  it('needs a server whose system is the fleet’s: nothing else brings what keeps it', () => {
    const lines = 'life = "apart"\nendpoint = "10.0.0.9"\nendpoint-keeper = "servers"'
    const of = (first: string, second: string) => {
      const host = (name: string, address: string, os: string) =>
        `[hosts.${name}]\nrole = "server"\ncluster = "c"\naddress = "${address}"\nprefix-length = 24\ninterface = "eth0"\n${os}`
      const hosts = [host('a', '10.0.0.2', first), host('b', '10.0.0.3', second)].join('\n')
      const head = '[fleet]\nname = "home"\nid = "5f1c0a7be2d94c3386a1f0d2b7c4e895"'
      const text = `${head}\n[clusters.c]\ndistribution = "k3s"\n${lines}\n${hosts}\n`
      return formatProblems(readFleetFile(text, 'fleet.toml').problems)
    }
    const external = 'os = "external"'
    expect(of(external, external)).toContain('the systems of all its servers are somebody else’s')
    expect(of('', external)).not.toContain('somebody')
  })

  it('needs an interface on every server', () => {
    const lines = 'endpoint = "10.0.0.9"\nendpoint-keeper = "servers"'
    const more = '[hosts.b]\nrole = "server"\ncluster = "c"'
    expect(problems(lines, more)).toContain('nothing says on which interface host "b" keeps it')
    expect(problems(`${lines}\nnode-interface = "eth1"`, more)).not.toContain('nothing says on which')
  })
})

describe('an endpoint that the servers keep, where nodes speak over a tunnel', () => {
  const three = (endpoint: string, cluster: string, host = 'interface = "eth0"') => {
    const head =
      '[fleet]\nname = "home"\nid = "5f1c0a7be2d94c3386a1f0d2b7c4e895"\n[defaults]\nprefix-length = 24'
    const hosts = ['a', 'b', 'd'].map(
      (name, index) =>
        `[hosts.${name}]\nrole = "server"\ncluster = "c"\naddress = "10.0.0.${index + 2}"\n${host}`,
    )
    const lines = `distribution = "k3s"\nendpoint = "${endpoint}"\nendpoint-keeper = "servers"\n${cluster}`
    const text = `${head}\n[clusters.c]\n${lines}\n${hosts.join('\n')}\n`
    return formatProblems(readFleetFile(text, 'fleet.toml').problems)
  }

  it('is kept in the network of the hosts, on their own interfaces', () => {
    expect(three('10.0.0.9', 'node-interface = "tailscale0"')).toBe('')
    expect(three('10.7.0.9', 'node-interface = "eth1"')).toBe('')
    expect(three('100.64.0.9', 'node-interface = "tailscale0"')).toContain(
      '100.64.0.9 is outside the network of host "a"; the servers can keep an address of their own network only',
    )
    expect(three('10.0.0.9', 'node-interface = "wg0"', '')).toContain(
      'nothing says on which interface host "a" keeps it; write interface for every server: wg0 is a tunnel',
    )
  })

  it('is not kept on the tunnel itself', () => {
    expect(three('10.0.0.9', '', 'interface = "tailscale0"')).toContain(
      'host "a" would keep it on tailscale0, a tunnel, which carries no VRRP; write an interface',
    )
  })
})

describe('a member whose system somebody else manages', () => {
  it('gets Kubernetes where that has a life of its own', () => {
    expect(problems('', 'os = "external"')).toBe('')
    expect(problems('', 'os = "external"', 'with-system')).toContain(
      'error: hosts.a.os: with os = "external" the system does not bring Kubernetes along; write life = "apart"',
    )
  })

  it('is told at the host when its group says who manages it', () => {
    const more = '[groups.g]\nos = "external"\n[hosts.b]\ngroup = "g"\nrole = "worker"\ncluster = "c"'
    expect(problems('', more, 'with-system')).toContain('error: hosts.b.role: with os = "external"')
  })

  it('needs no cluster without a role', () => {
    expect(problems('', '[hosts.b]\nos = "external"', 'with-system')).toBe('')
  })
})
