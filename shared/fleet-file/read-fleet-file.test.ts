import { describe, expect, it } from 'vitest'
import { initialFleetFile } from './initial-fleet-file.ts'
import { formatProblems } from './problem.ts'
import { readFleetFile } from './read-fleet-file.ts'

const id = '5f1c0a7be2d94c3386a1f0d2b7c4e895'

// Line numbers in the tests below count from here: [fleet] is line 1.
const example = `[fleet]
name = "home"
id = "${id}"                          # random, made by init
store = "https://cache.home"          # where publish --build copies closures

[defaults]                            # host over group over defaults
prefix-length = 24
gateway = "10.0.100.1"
nameservers = ["10.0.100.1"]

[clusters.home]
distribution = "k3s"                  # k3s | k0s | kubernetes | components
version = "1.34.3"                    # absent: the host closure's
life = "apart"                        # apart: own profile, moves alone | with-system
endpoint = "10.0.100.9"
node-interface = "tailscale0"

[groups.edge]                         # machines that nobody lists one by one
admit = "facts.system.product == 'N100'"
name = "edge-{serial}"
role = "worker"
cluster = "home"
address = "dhcp"

[hosts.olaf]
role = "server"                       # server | worker | server+worker | none (default)
cluster = "home"
address = "10.0.100.2"
interface = "enp0s20f0"
disk = { serial = "S4EVNX0M123456" }  # binds the host to this machine: install here, and only here
labels = { rack = "a" }
extra = { anything = "reaches the host's Nix modules" }

[hosts.nas]                           # no Kubernetes; the existing configuration as it is
config = "nixosConfigurations.nas"
`

function check(text: string): string {
  return formatProblems(readFleetFile(text, 'fleet.toml').problems)
}

/** The example with one piece of text replaced. */
function changed(from: string, to: string): string {
  if (!example.includes(from)) throw new Error(`the example has no ${from}`)
  return example.replace(from, () => to)
}

describe('a good fleet file', () => {
  it('is the one of the design, which is accepted without any warning', () => {
    const result = readFleetFile(example, 'fleet.toml')
    expect(result.problems).toEqual([])
    expect(result.ok && result.fleet).toEqual({
      name: 'home',
      id,
      store: 'https://cache.home',
      substituters: ['https://cache.home'],
      publicKeys: [],
      floor: undefined,
      expiresDays: 90,
      leastNixVersion: undefined,
      clusters: [
        {
          name: 'home',
          distribution: 'k3s',
          version: '1.34.3',
          life: 'apart',
          endpoint: '10.0.100.9',
          endpointKeeper: 'outside',
          nodeInterface: 'tailscale0',
          podCidr: undefined,
          serviceCidr: undefined,
          after: [],
          gates: [],
        },
      ],
      groups: [
        expect.objectContaining({
          name: 'edge',
          role: 'worker',
          cluster: 'home',
          admission: { rule: "facts.system.product == 'N100'", nameTemplate: 'edge-{serial}' },
          attribute: 'edge',
        }),
      ],
      hosts: [
        {
          name: 'olaf',
          group: undefined,
          role: 'server',
          cluster: 'home',
          address: '10.0.100.2',
          prefixLength: 24,
          gateway: '10.0.100.1',
          nameservers: ['10.0.100.1'],
          interface: 'enp0s20f0',
          labels: { rack: 'a' },
          system: 'x86_64-linux',
          nixpkgs: 'nixpkgs',
          attribute: 'olaf',
          ownConfig: false,
          users: new Map(),
          extra: { anything: "reaches the host's Nix modules" },
          external: false,
          safety: {
            gates: [],
            soakMs: undefined,
            confirmWithinMs: undefined,
            confirm: undefined,
            reboot: undefined,
            trial: undefined,
            toleratedUnits: [],
          },
          rollout: { windows: [], after: [], drainLimitMs: undefined },
          binding: {
            machine: undefined,
            serial: undefined,
            uuid: undefined,
            mac: undefined,
            diskSerial: 'S4EVNX0M123456',
          },
        },
        expect.objectContaining({
          name: 'nas',
          role: 'none',
          cluster: undefined,
          attribute: 'nas',
          address: 'dhcp',
        }),
      ],
      rollout: expect.objectContaining({ canaries: [], windows: [], maxUnavailable: undefined }),
    })
  })

  it('is the one that init writes', () => {
    const text = initialFleetFile({ name: 'home', id })
    expect(check(text)).toBe('')
    expect(readFleetFile(text, 'fleet.toml').ok).toBe(true)
  })

  it('is the one that init writes with all that stands in comments', () => {
    const text = initialFleetFile({ name: 'home', id })
      .split('\n')
      .map(line => (/^# (\[|[a-z-]+ = )/.test(line) && !line.includes(';') ? line.slice(2) : line))
      .join('\n')
      .replace('cache.example-1:…', `cache.example-1:${'A'.repeat(43)}=`)
      .replace(
        'ssh-ed25519 …',
        'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl',
      )
      .replace('[hosts.olaf]', '[hosts.olaf]\nrole = "server"\ncluster = "main"')
    expect(check(text)).toBe('')
    const result = readFleetFile(text, 'fleet.toml')
    expect(result.ok && result.fleet.hosts.map(({ name }) => name)).toEqual(['olaf', 'nas'])
    expect(result.ok && result.fleet.groups[0]?.admission?.nameTemplate).toBe('edge-{serial}')
    expect(result.ok && result.fleet.publicKeys).toHaveLength(1)
  })

  it('is refused to be begun with a name or an id that would not pass', () => {
    expect(() => initialFleetFile({ name: 'a"\nb', id })).toThrow('a fleet cannot be named so')
    expect(() => initialFleetFile({ name: 'a', id: 'x' })).toThrow('32 lower-case hex digits')
  })

  it('lays host over group over defaults, and merges labels, users and extra', () => {
    const result = readFleetFile(
      `[fleet]
name = "a"
id = "${id}"
[defaults]
system = "aarch64-linux"
interface = "eth0"
nixpkgs = "stable"
labels = { one = "defaults", two = "defaults", three = "defaults" }
extra = { deep = { a = 1, b = 1 }, list = [1, 2] }
[groups.g]
interface = "eth1"
nixpkgs = "unstable"
labels = { two = "group", three = "group" }
[hosts.h]
group = "g"
nixpkgs = "own"
labels = { three = "host" }
extra = { deep = { b = 2 }, list = [3] }
`,
      'fleet.toml',
    )
    expect(result.ok && result.fleet.hosts[0]).toMatchObject({
      system: 'aarch64-linux',
      interface: 'eth1',
      nixpkgs: 'own',
      labels: { one: 'defaults', two: 'group', three: 'host' },
      extra: { deep: { a: 1, b: 2 }, list: [3] },
    })
  })

  it('may use __proto__ and constructor as keys of extra without any effect', () => {
    const text = changed(
      'extra = { anything',
      'extra = { __proto__ = { polluted = true }, constructor = 1, anything',
    )
    const result = readFleetFile(text, 'fleet.toml')
    if (!result.ok) throw new Error(formatProblems(result.problems))
    const extra = result.fleet.hosts[0]?.extra ?? {}
    expect(Object.keys(extra)).toEqual(['__proto__', 'constructor', 'anything'])
    expect(extra.polluted).toBeUndefined()
    expect(Reflect.get({}, 'polluted')).toBeUndefined()
  })
})

const digest = 'a'.repeat(64)
const pem = ['-----BEGIN OPENSSH PRIVATE', 'KEY-----'].join(' ')

// Each row: what is replaced, by what, and the one line that the check then prints.
const mistakes: readonly (readonly [from: string, to: string, line: string])[] = [
  ['name = "home"', 'nmae = "home"', '2:1: error: fleet.nmae: unknown key; did you mean "name"?'],
  [
    `id = "${id}"`,
    'id = "5F1C"',
    '3:6: error: fleet.id: "5F1C" is no fleet id: it is 32 lower-case hex digits',
  ],
  [`id = "${id}"`, 'store-2 = 1', '1:2: error: fleet.id: is missing: write id = '],
  [
    'store = "https://cache.home"',
    'store = "cache.home"',
    '4:9: error: fleet.store: "cache.home" is no store URL',
  ],
  [
    'store = "https://cache.home"',
    'store = "https://token@cache.home"',
    '4:9: error: fleet.store: "https://token@cache.home" is no store URL: who logs in',
  ],
  ['prefix-length = 24', 'prefix-length = "24"', '7:17: error: defaults.prefix-length: text stands where'],
  [
    'prefix-length = 24',
    'prefix-length = 240',
    '7:17: error: defaults.prefix-length: 240 is out of range: write a number from 1 to 128',
  ],
  [
    'prefix-length = 24',
    'prefixLength = 24',
    '7:1: error: defaults.prefixLength: unknown key; did you mean "prefix-length"?',
  ],
  [
    'prefix-length = 24',
    'prefix-length = 33',
    '28:11: error: hosts.olaf.address: prefix-length 33 is too long for 10.0.100.2: at most 32',
  ],
  [
    'prefix-length = 24',
    '',
    '28:11: error: hosts.olaf.address: a fixed address needs its network: write prefix-length = 24 here or in [defaults]',
  ],
  [
    'gateway = "10.0.100.1"',
    'gateway = "10.0.1.300"',
    '8:11: error: defaults.gateway: "10.0.1.300" is no IP address: write IPv4',
  ],
  [
    'gateway = "10.0.100.1"',
    'gateway = "10.0.1.1"',
    '28:11: error: hosts.olaf.address: the gateway 10.0.1.1 (line 8) is outside the network of 10.0.100.2/24',
  ],
  [
    'gateway = "10.0.100.1"',
    'gateway = "fd00::1"',
    '28:11: error: hosts.olaf.address: the gateway fd00::1 (line 8) is outside the network',
  ],
  [
    'nameservers = ["10.0.100.1"]',
    'nameservers = ["10.0.100.1", "dns.home"]',
    '9:30: error: defaults.nameservers.1: "dns.home" is no IP address',
  ],
  [
    'nameservers = ["10.0.100.1"]',
    'nameservers = "10.0.100.1"',
    '9:15: error: defaults.nameservers: text stands where list of IP addresses belongs: write a list',
  ],
  ['[defaults]', '[default]', '6:2: error: default: unknown key; did you mean "defaults"?'],
  [
    'distribution = "k3s"',
    'distribution = "k3"',
    '12:16: error: clusters.home.distribution: "k3" is not known here, write one of "k3s", "k0s", "kubernetes", "components"; did you mean "k3s"?',
  ],
  [
    'version = "1.34.3"',
    'version = "v1.34"',
    '13:11: error: clusters.home.version: "v1.34" is no version: write it without a leading v',
  ],
  ['life = "apart"', 'life = "alone"', '14:8: error: clusters.home.life: "alone" is not known here'],
  [
    'endpoint = "10.0.100.9"',
    'endpoint = "https://x:6443"',
    '15:12: error: clusters.home.endpoint: "https://x:6443" is no endpoint: write an IP address',
  ],
  [
    'node-interface = "tailscale0"',
    'node-interface = "tail scale"',
    '16:18: error: clusters.home.node-interface: "tail scale" is no interface name',
  ],
  [
    '[clusters.home]',
    '[clusters.hom]',
    '22:11: error: groups.edge.cluster: no cluster "home" is defined; did you mean "hom"?',
  ],
  [
    '[clusters.home]',
    '[[clusters.home]]',
    '11:12: error: clusters.home: a list stands where a table belongs',
  ],
  [
    `admit = "facts.system.product == 'N100'"`,
    'admit = " "',
    '19:9: error: groups.edge.admit: " " is no rule: it is empty, which would select nothing',
  ],
  [
    `admit = "facts.system.product == 'N100'"`,
    '',
    `18:9: error: groups.edge: names machines but admits none: write admit = `,
  ],
  [
    'name = "edge-{serial}"',
    '',
    '18:9: error: groups.edge: admits machines but does not say how to name them: write name = "edge-{serial}"',
  ],
  [
    'name = "edge-{serial}"',
    'name = "edge"',
    '20:8: error: groups.edge.name: "edge" is no name template: every machine of the group would get the same name',
  ],
  [
    'name = "edge-{serial}"',
    'name = "edge-{cereal}"',
    '20:8: error: groups.edge.name: "edge-{cereal}" is no name template: the placeholder is not known; known are {serial}, {uuid}, {mac}, {machine}',
  ],
  [
    'name = "edge-{serial}"',
    'name = "Edge {serial}"',
    '20:8: error: groups.edge.name: "Edge {serial}" is no name template: around the placeholders',
  ],
  [
    'role = "worker"',
    'role = "server"',
    '21:8: error: groups.edge.role: a rule over facts never admits a server',
  ],
  [
    'role = "worker"',
    'role = "server+worker"',
    '21:8: error: groups.edge.role: a rule over facts never admits a server',
  ],
  [
    'address = "dhcp"',
    'address = "10.0.100.4"',
    '23:11: error: groups.edge.address: "10.0.100.4" is no address for many machines: only "dhcp"',
  ],
  ['[groups.edge]', '[groups.nas]', '18:9: error: groups.nas: has the name of the host in line 34'],
  [
    '[groups.edge]',
    '[groups.Edge]',
    '18:9: error: groups.Edge: "Edge" cannot be a name: use lower-case letters',
  ],
  [
    'role = "server"',
    'role = "sever"',
    '26:8: error: hosts.olaf.role: "sever" is not known here, write one of "server", "worker", "server+worker", "none"; did you mean "server"?',
  ],
  [
    'role = "server"',
    'role = "worker"',
    '11:11: error: clusters.home: has no server: give one host role = "server" and cluster = "home"',
  ],
  [
    'cluster = "home"\naddress = "10',
    'address = "10',
    '26:8: error: hosts.olaf.role: role "server" needs a cluster: write cluster = "NAME" beside it',
  ],
  [
    'address = "10.0.100.2"',
    'adress = "10.0.100.2"',
    '28:1: error: hosts.olaf.adress: unknown key; did you mean "address"?',
  ],
  [
    'address = "10.0.100.2"',
    'address = "10.0.100.2/24"',
    '28:11: error: hosts.olaf.address: "10.0.100.2/24" is no IP address or "dhcp": write IPv4',
  ],
  [
    'address = "10.0.100.2"',
    'address = "127.0.0.1"',
    '28:11: error: hosts.olaf.address: "127.0.0.1" is no IP address or "dhcp": it is a loopback address',
  ],
  [
    'address = "10.0.100.2"',
    'address = "10.0.100.255"',
    '28:11: error: hosts.olaf.address: 10.0.100.255 is the first or last address of its network',
  ],
  [
    'address = "10.0.100.2"',
    'address = "10.0.100.1"',
    "28:11: warning: hosts.olaf.address: the gateway 10.0.100.1 (line 8) is the host's own address",
  ],
  [
    'address = "10.0.100.2"',
    'gateway = "10.0.100.1"',
    '28:11: warning: hosts.olaf.gateway: has no effect with DHCP',
  ],
  [
    'interface = "enp0s20f0"',
    'nixpkgs = "nixpkgs"',
    '28:11: warning: hosts.olaf.address: the address is fixed, but nothing says for which interface; write interface',
  ],
  [
    'interface = "enp0s20f0"',
    'interface = "../etc"',
    '29:13: error: hosts.olaf.interface: "../etc" is no interface name',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'disk = {}',
    '30:8: error: hosts.olaf.disk.serial: is missing: write serial = "S4EVNX0M123456"',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'disk = { serial = "" }',
    '30:19: error: hosts.olaf.disk.serial: "" is no serial number: it is empty, which would bind nothing',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'disk = "S4"',
    '30:8: error: hosts.olaf.disk: text stands where table belongs: write a table such as { serial = "S4EVNX0M123456" }',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'disk = { serail = "S4" , serial = "S4" }',
    '30:10: error: hosts.olaf.disk.serail: unknown key; did you mean "serial"?',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'serial = "To be filled by O.E.M."',
    '30:10: error: hosts.olaf.serial: "To be filled by O.E.M." is no serial number: vendors write it',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'mac = "52-54-00-12-34-56"',
    '30:7: error: hosts.olaf.mac: "52-54-00-12-34-56" is no MAC address: write six hex pairs',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'mac = "ff:ff:ff:ff:ff:ff"',
    '30:7: error: hosts.olaf.mac: "ff:ff:ff:ff:ff:ff" is no MAC address: it is a multicast',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'uuid = "4c4c4544"',
    '30:8: error: hosts.olaf.uuid: "4c4c4544" is no UUID',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'machine = "abc"',
    '30:11: error: hosts.olaf.machine: "abc" is no machine id',
  ],
  [
    'disk = { serial = "S4EVNX0M123456" }',
    'admit = "true"',
    '30:1: error: hosts.olaf.admit: does not belong here but in [groups.NAME]',
  ],
  [
    'labels = { rack = "a" }',
    'labels = { rack = 7 }',
    '31:19: error: hosts.olaf.labels.rack: a number stands where label value belongs',
  ],
  [
    'labels = { rack = "a" }',
    'labels = { "ra ck" = "a" }',
    '31:12: error: hosts.olaf.labels."ra ck": "ra ck" cannot stand here: a label is named as in Kubernetes',
  ],
  [
    'labels = { rack = "a" }',
    'labels = { __proto__ = "a" }',
    '31:12: error: hosts.olaf.labels.__proto__: "__proto__" cannot stand here',
  ],
  [
    'labels = { rack = "a" }',
    '__proto__ = { a = 1 }',
    '31:1: error: hosts.olaf.__proto__: unknown key; known here are',
  ],
  [
    'labels = { rack = "a" }',
    'system = "x86-64-linux"',
    '31:10: error: hosts.olaf.system: "x86-64-linux" is not known here, write one of "x86_64-linux", "aarch64-linux"; did you mean "x86_64-linux"?',
  ],
  ['labels = { rack = "a" }', 'nixpkgs = "a.b"', '31:11: error: hosts.olaf.nixpkgs: "a.b" is no flake input'],
  [
    'labels = { rack = "a" }',
    'group = "edg"',
    '31:9: error: hosts.olaf.group: no group "edg" is defined; did you mean "edge"?',
  ],
  [
    'labels = { rack = "a" }',
    'users = { ada = {} }',
    '31:17: error: hosts.olaf.users.ada.keys: is missing: write keys = ',
  ],
  [
    'labels = { rack = "a" }',
    'users = { ada = { keys = [] } }',
    '31:26: error: hosts.olaf.users.ada.keys: write from 1 to 1000 items, not 0',
  ],
  [
    'labels = { rack = "a" }',
    'users = { ada = { keys = ["ssh-ed25519 AAAA ada"] } }',
    '31:27: error: hosts.olaf.users.ada.keys.0: "ssh-ed25519 AAAA ada" is no SSH public key: the part in the middle is damaged',
  ],
  [
    'labels = { rack = "a" }',
    'users = { "a b" = { keys = ["x"] } }',
    '31:11: error: hosts.olaf.users."a b": "a b" cannot stand here: a login name',
  ],
  [
    'labels = { rack = "a" }',
    'os = "windows"',
    '31:6: error: hosts.olaf.os: "windows" is not known here, write "external"',
  ],
  [
    'extra = { anything = "reaches the host\'s Nix modules" }',
    'extra = { when = 2020-01-01 }',
    '32:18: error: hosts.olaf.extra.when: Nix reads no dates and times from TOML; write it as text: "2020-01-01"',
  ],
  [
    'extra = { anything = "reaches the host\'s Nix modules" }',
    'extra = { n = 9007199254740992 }',
    '32:15: error: hosts.olaf.extra.n: the number is beyond 2^53',
  ],
  [
    'extra = { anything = "reaches the host\'s Nix modules" }',
    'extra = { n = inf }',
    '32:15: error: hosts.olaf.extra.n: the number is not finite',
  ],
  [
    'extra = { anything = "reaches the host\'s Nix modules" }',
    `extra = { k = "${pem}" }`,
    '32:15: error: hosts.olaf.extra.k: this looks like a private key; every node can read this file',
  ],
  ['[hosts.nas]', '[hosts.Olaf]', '34:8: error: hosts.Olaf: differs from "olaf" only in capital letters'],
  ['[hosts.nas]', '[hosts.nas_1]', '34:8: error: hosts.nas_1: "nas_1" cannot be a name'],
  [
    'config = "nixosConfigurations.nas"',
    'config = "nas"',
    '35:10: error: hosts.nas.config: "nas" is no flake attribute: write "nixosConfigurations." and one plain name',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'address = "10.0.100.2"\ninterface = "eth0"',
    '35:11: error: hosts.nas.address: 10.0.100.2 is the address of host "olaf" in line 28 too',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'disk.serial = "S4EVNX0M123456"',
    '35:15: error: hosts.nas.disk.serial: this disk serial binds host "olaf" in line 30 too',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'config = "nixosConfigurations.olaf"',
    '35:10: warning: hosts.nas.config: host "olaf" in line 25 has this configuration too; both machines would get one name',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'cluster = "home"',
    '35:11: warning: hosts.nas.cluster: has no effect without a role',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'role = "server"\ncluster = "home"',
    '11:11: warning: clusters.home: has 2 servers, which bear the loss of no more than 1 would; make it 1 or 3',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'config = "nixosConfigurations.nas"\nos = "external"',
    '35:10: error: hosts.nas.config: nothing is installed on a machine with os = "external"',
  ],
  [
    'config = "nixosConfigurations.nas"',
    'extra = { a.b.c.d.e.f.g.h.i.j.k.l.m.n = 1 }',
    '35:11: error: hosts.nas.extra: tables may be nested at most 16 deep',
  ],
]

describe('a single mistake', () => {
  it.each(mistakes)('%j made into %j is named at its place', (from, to, line) => {
    expect(check(changed(from, to))).toContain(`fleet.toml:${line}`)
  })

  it.each(
    mistakes.filter(
      ([, to]) => !/hom\]|\[default\]|Olaf|store-2|nmae|adress|prefixL|^address = .10$|a b|\[\[|^$/.test(to),
    ),
  )('%j made into %j is the only thing that is reported', (from, to) => {
    expect(check(changed(from, to)).trimEnd().split('\n')).toHaveLength(1)
  })

  it('in the hardware a host is bound to is found between any two hosts', () => {
    for (const [key, value] of [
      ['machine', digest],
      ['serial', 'PF3XQ1AB'],
      ['uuid', '4c4c4544-0051-3610-8052-b4c04f4d4e32'],
      ['mac', '52:54:00:12:34:5a'],
    ] as const) {
      const second = key === 'uuid' || key === 'mac' ? value.toUpperCase() : value
      const text = `[fleet]\nname = "a"\nid = "${id}"\n[hosts.a]\n${key} = "${value}"\n[hosts.b]\n${key} = "${second}"\n`
      expect(check(text)).toMatch(
        /^fleet\.toml:7:\d+: error: hosts\.b\.\w+: this .* binds host "a" in line 5 too/,
      )
    }
  })

  it('in a rule is named at the rule by whoever can read rules', () => {
    const { ok, problems } = readFleetFile(example, 'fleet.toml', {
      checkRule: () => ({ reason: 'unexpected end' }),
    })
    expect(ok).toBe(false)
    expect(formatProblems(problems)).toBe(
      'fleet.toml:19:9: error: groups.edge.admit: the rule cannot be read: unexpected end\n',
    )
  })

  it('in a rule is shown in two lines where whoever can read rules tells the place', () => {
    const checkRule = () => ({ reason: 'unexpected end', place: '  facts.x ==\n           \u001b^' })
    expect(formatProblems(readFleetFile(example, 'fleet.toml', { checkRule }).problems)).toBe(
      'fleet.toml:19:9: error: groups.edge.admit: the rule cannot be read: unexpected end\n' +
        '  facts.x ==\n           \\u001b^\n',
    )
  })
})

describe('a file with many mistakes', () => {
  it('has all of them named in one run, in the order of the file', () => {
    const text = changed('prefix-length = 24', 'prefix-length = "24"')
      .replace('distribution = "k3s"', 'distribution = "k9s"')
      .replace('labels = {', 'lables = {')
    expect(readFleetFile(text, 'f').problems.map(({ line, path }) => [line, path])).toEqual([
      [7, 'defaults.prefix-length'],
      [12, 'clusters.home.distribution'],
      [31, 'hosts.olaf.lables'],
    ])
  })

  it('has at most 1000 of them printed, and says how many are left', () => {
    const keys = Array.from({ length: 1500 }, (_, index) => `zz${index} = 1`).join('\n')
    const { ok, problems } = readFleetFile(`${example}${keys}\n`, 'f')
    expect(ok).toBe(false)
    expect(problems).toHaveLength(1001)
    expect(problems.at(-1)?.message).toContain('500 more problems')
  })

  it('may be no fleet file at all', () => {
    expect(check('')).toContain('fleet.toml:1:1: error: fleet: is missing: write [fleet] with name and id')
    expect(check('hosts = 3\nfleet = []')).toContain(
      '2:9: error: fleet: a list stands where the section fleet belongs',
    )
    expect(check('hosts = 3\nfleet = []')).toContain(
      '1:9: error: hosts: a number stands where the section hosts belongs',
    )
    expect(check('[hosts]\nrole = "server"')).toContain('the key role belongs in [hosts.NAME]')
    expect(check('name = "home"')).toContain('1:1: error: name: does not belong here but in [fleet]')
  })
})

describe('the bounds of a fleet file', () => {
  it('are 10,000 hosts', () => {
    const hosts = (count: number) =>
      Array.from({ length: count }, (_, index) => `[hosts.h${index}]`).join('\n')
    expect(check(`${example}${hosts(10_000)}`)).toContain('holds 10002 tables, more than the 10000')
    expect(check(`${example}${hosts(9_998)}`)).toBe('')
  })

  it('are one MiB', () => {
    expect(check(`${example}#${'x'.repeat(1024 * 1024)}`)).toContain('larger than 1048576 bytes')
    expect(check(`${example}#${'x'.repeat(1024 * 1024 - example.length - 1)}`)).toBe('')
  })

  it('leave 2,000 hosts to be read quickly', () => {
    const hosts = Array.from({ length: 2000 }, (_, index) => {
      const address = `10.1.${Math.floor(index / 250)}.${(index % 250) + 2}`
      return `[hosts.h${index}]\naddress = "${address}"\ninterface = "eth0"\nprefix-length = 16\ngateway = "10.1.255.1"\ndisk.serial = "S${index}"\nlabels = { rack = "r${index % 40}" }\n`
    }).join('\n')
    const start = performance.now()
    const result = readFleetFile(`${example}\n${hosts}`, 'fleet.toml')
    console.log(`2000 hosts read in ${Math.round(performance.now() - start)} ms`)
    expect(formatProblems(result.problems)).toBe('')
    expect(result.ok && result.fleet.hosts).toHaveLength(2002)
  })
})
