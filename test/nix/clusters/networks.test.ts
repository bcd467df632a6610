import { describe, expect, test } from 'vitest'
import { isTunnel } from '../../../shared/fleet-file/tunnel-interface.ts'
import { unitSection } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import {
  clusterFacts,
  commandOf,
  configurationsOf,
  DISTRIBUTIONS,
  flagOf,
  HOSTS,
  machineOf,
  service,
  unitsOf,
} from './cluster-fleet.ts'

const why = whyNoNixTests()
const ONE = '[hosts.n1]\nrole = "server"\naddress = "10.0.0.11"\n'
/** A pair that every server has, as the distribution names it. */
const CLIENT = {
  k3s: '/var/lib/rancher/k3s/server/tls/client-admin',
  k0s: '/var/lib/k0s/pki/admin',
  kubernetes: '/var/lib/kubernetes/pki/apiserver-kubelet-client',
  components: '/var/lib/kubernetes/pki/apiserver-kubelet-client',
} as const

describe.skipIf(why !== undefined)(`addresses and ports ${why ?? ''}`, () => {
  test.each(DISTRIBUTIONS)('%s: a fixed address is the node’s, and nothing waits for one', distribution => {
    const { n1, w1 } = configurationsOf({ distribution })
    for (const machine of [n1, w1]) {
      expect(machine?.units).not.toHaveProperty('muster-node-address.service')
      expect(JSON.stringify(machine?.units)).not.toContain('MUSTER_NODE_ADDRESS')
    }
    expect(JSON.stringify(w1?.units)).toContain('10.0.0.21')
  })

  test.each(DISTRIBUTIONS)(
    '%s: the address of an interface is found at the start, after Tailscale',
    distribution => {
      const made = configurationsOf({ distribution, cluster: 'node-interface = "tailscale0"' })
      for (const machine of Object.values(made)) {
        const text = machine.units['muster-node-address.service']
        expect(unitSection(text, 'Unit').get('After')?.[0]?.split(' ')).toEqual(
          expect.arrayContaining([
            'tailscaled.service',
            'tailscaled-autoconnect.service',
            'network-online.target',
          ]),
        )
        expect(commandOf(machine, 'muster-node-address.service')).toMatch(
          /node-address\.sh \/run\/muster-node tailscale0$/,
        )
        for (const name of unitsOf(machine)) {
          const unit = unitSection(machine.units[name], 'Unit')
          expect(unit.get('Requires')?.[0]?.split(' ')).toContain('muster-node-address.service')
          expect(unit.get('After')?.[0]?.split(' ')).toContain('muster-node-address.service')
          expect(
            service(machine, name)
              .get('EnvironmentFile')
              ?.some(file => file.startsWith('/run/muster-node/')),
          ).toBe(true)
          // The host's fixed address is that of another interface.
          expect(commandOf(machine, name)).not.toMatch(
            /(node-ip|advertise-address|listen-peer-urls)=\S*10\.0\.0\./,
          )
        }
        expect(clusterFacts(machine)).toMatchObject({ nodeAddress: null })
      }
    },
  )

  test.each(DISTRIBUTIONS)(
    '%s: an address that comes late keeps Kubernetes waiting, and nothing else of a boot',
    distribution => {
      const w1 = machineOf(configurationsOf({ distribution, cluster: 'node-interface = "wg0"' }), 'w1')
      // With an end it would fail, and with it for good the start of all that requires it.
      const address = service(w1, 'muster-node-address.service')
      expect(address.get('Type')).toEqual(['oneshot'])
      expect(address.get('TimeoutStartSec')).toEqual(['infinity'])
      const waiting = Object.entries(w1.units)
        .filter(([, text]) => /^(After|Requires|Wants|BindsTo)=.*muster-node-address/m.test(text))
        .map(([name]) => name)
      expect(waiting.sort()).toEqual(unitsOf(w1).sort())
      for (const name of ['muster-node-address.service', ...waiting])
        expect(unitSection(w1.units[name], 'Install').get('WantedBy') ?? []).toEqual([])
      expect(commandOf(w1, 'muster-kubernetes.service')).toContain(' start --no-block ')
    },
  )

  test('waits for another interface without Tailscale, and for the default route’s with DHCP', () => {
    const wg = machineOf(configurationsOf({ distribution: 'k3s', cluster: 'node-interface = "wg0"' }), 'w1')
    expect(wg.units['muster-node-address.service']).not.toContain('tailscale')
    expect(flagOf(wg, 'k3s.service', 'flannel-iface')).toBe('wg0')
    const hosts = `${HOSTS}[hosts.w2]\nrole = "worker"\n`
    const dhcp = machineOf(configurationsOf({ distribution: 'k3s', hosts }), 'w2')
    expect(commandOf(dhcp, 'muster-node-address.service')).toMatch(/node-address\.sh \/run\/muster-node$/)
    // biome-ignore lint/suspicious/noTemplateCurlyInString: systemd expands it
    expect(flagOf(dhcp, 'k3s.service', 'node-ip')).toBe('${MUSTER_NODE_ADDRESS}')
  })

  test.each(DISTRIBUTIONS)(
    '%s: the address of a name is found at the start, and is no fixed one',
    distribution => {
      const settings = 'muster.kubernetes.nodeDnsName = "n1.tail1234.ts.net";'
      const machine = machineOf(configurationsOf({ distribution, settings }), 'n1')
      expect(machine.failedAssertions).toEqual([])
      expect(commandOf(machine, 'muster-node-address.service')).toMatch(
        /node-address\.sh \/run\/muster-node '' n1\.tail1234\.ts\.net$/,
      )
      expect(clusterFacts(machine)).toMatchObject({
        nodeAddress: null,
        servers: { n1: null, n2: null, n3: null },
      })
      for (const name of unitsOf(machine))
        expect(unitSection(machine.units[name], 'Unit').get('Requires')?.[0]).toContain('muster-node-address')
      const both = configurationsOf({
        distribution,
        settings: `${settings} muster.kubernetes.nodeAddress = "10.0.0.11";`,
      })
      expect(both.n1?.failedAssertions).toContainEqual(expect.stringContaining('set one of them'))
    },
  )

  test('node-interface that is the host’s own interface keeps the fixed address', () => {
    const machine = machineOf(
      configurationsOf({ distribution: 'k3s', cluster: 'node-interface = "eth0"' }),
      'n1',
    )
    expect(flagOf(machine, 'k3s.service', 'node-ip')).toBe('10.0.0.11')
  })

  test.each(DISTRIBUTIONS)(
    '%s: a node interface that a module sets is waited for, as one of the file is',
    distribution => {
      const inFile = configurationsOf({ distribution, cluster: 'node-interface = "wg0"' })
      const inModule = configurationsOf({
        distribution,
        settings: 'muster.kubernetes.nodeInterface = "wg0";',
      })
      for (const name of ['n1', 'w1']) {
        expect(machineOf(inModule, name).units).toEqual(machineOf(inFile, name).units)
        expect(clusterFacts(machineOf(inModule, name))).toEqual(clusterFacts(machineOf(inFile, name)))
        expect(machineOf(inModule, name).units).toHaveProperty('muster-node-address.service')
      }
      // And one that a module takes back is not.
      const own = configurationsOf({
        distribution,
        cluster: 'node-interface = "wg0"',
        settings: 'muster.kubernetes.nodeInterface = null;',
      })
      expect(clusterFacts(machineOf(own, 'n1'))).toMatchObject({ nodeAddress: '10.0.0.11' })
    },
  )

  test('knows of a server’s address by that server’s interface, and all members know the same', () => {
    const hosts = HOSTS.replace('[hosts.n2]', '[hosts.n2]\ninterface = "eth1"')
    const made = configurationsOf({ distribution: 'k3s', cluster: 'node-interface = "eth0"', hosts })
    for (const machine of Object.values(made)) {
      expect(clusterFacts(machine)).toMatchObject({
        servers: { n1: '10.0.0.11', n2: null, n3: '10.0.0.13' },
        certificateNames: ['n1', 'n2', 'n3', '10.0.0.11', '10.0.0.13'],
      })
    }
    expect(clusterFacts(machineOf(made, 'n2'))).toMatchObject({ nodeAddress: null })
    expect(clusterFacts(machineOf(made, 'n1'))).toMatchObject({ nodeAddress: '10.0.0.11' })
  })

  test('machines of a group take the name that they have', () => {
    const group = `${HOSTS}[groups.edge]\nadmit = "true"\nname = "e-{serial}"\nrole = "worker"\n`
    for (const distribution of DISTRIBUTIONS) {
      const edge = machineOf(configurationsOf({ distribution, hosts: group }), 'edge')
      expect(edge.failedAssertions).toEqual([])
      const override = flagOf(
        edge,
        distribution === 'kubernetes' ? 'kubelet.service' : `${distribution}.service`,
        'hostname-override',
      )
      expect(override).toBe(distribution === 'kubernetes' ? '%H' : undefined)
    }
  })

  test.each([
    ['k3s', [6443, 10250, 2379, 2380], [10250], [8472, 51820, 51821]],
    ['k0s', [6443, 2380, 9443, 8132], [10250, 179], []],
    ['kubernetes', [6443, 10250, 2379, 2380], [10250], [8285, 8472]],
    ['components', [6443, 2379, 2380], [10250], []],
  ] as const)(
    '%s: opens what each role needs, on the interface of the nodes where there is one',
    (distribution, server, worker, udp) => {
      const sorted = (list: readonly number[] | undefined) => [...(list ?? [])].sort((a, b) => a - b)
      const open = configurationsOf({ distribution })
      expect(sorted(open.n1?.networking.firewall.allowedTCPPorts)).toEqual(sorted(server))
      expect(sorted(open.w1?.networking.firewall.allowedTCPPorts)).toEqual(sorted(worker))
      expect(sorted(open.w1?.networking.firewall.allowedUDPPorts)).toEqual(sorted(udp))
      const narrow = configurationsOf({ distribution, cluster: 'node-interface = "tailscale0"' })
      expect(narrow.n1?.networking.firewall.allowedTCPPorts).toEqual([6443])
      expect(narrow.w1?.networking.firewall.allowedTCPPorts).toEqual([])
      expect(narrow.w1?.networking.firewall.allowedUDPPorts).toEqual([])
      expect(sorted(narrow.w1?.networking.firewall.interfaces.tailscale0?.allowedTCPPorts)).toEqual(
        sorted(worker),
      )
      const closed = configurationsOf({ distribution, settings: 'muster.kubernetes.openFirewall = false;' })
      expect(closed.n1?.networking.firewall).toMatchObject({
        allowedTCPPorts: [],
        allowedUDPPorts: [],
        trustedInterfaces: [],
      })
    },
  )

  test.each([
    ['', [10250], [4789]],
    ['calico.vxlanPort = 4790;', [10250], [4790]],
    ['calico.wireguard = true;', [10250], [4789, 51820, 51821]],
    ['calico.mode = "bird";', [179, 10250], []],
    ['calico.mode = "ipip";', [179, 10250], []],
  ])('k0s with Calico opens on workers what its settings say: %s', (calico, tcp, udp) => {
    const settings = `services.k0s.spec.network = { provider = "calico"; ${calico} };`
    const { n1, w1 } = configurationsOf({ distribution: 'k0s', settings })
    expect([...(w1?.networking.firewall.allowedTCPPorts ?? [])].sort((a, b) => a - b)).toEqual(tcp)
    expect(w1?.networking.firewall.allowedUDPPorts).toEqual(udp)
    expect(w1?.networking.firewall.extraCommands).toBe(
      calico.includes('ipip') ? 'ip46tables -A nixos-fw -p 4 -j nixos-fw-accept\n' : '',
    )
    // No pod of it runs on a controller alone.
    expect(n1?.networking.firewall.allowedUDPPorts).toEqual([])
  })

  const OF_K0S = `services.k0s.spec.network.controlPlaneLoadBalancing = {
    enabled = true;
    keepalived.vrrpInstances = [ { virtualIPs = [ "10.0.0.9/24" ]; interface = "eth0"; } ];
  };`
  test.each([
    ['k0s', '', OF_K0S],
    ...DISTRIBUTIONS.map(name => [name, 'endpoint = "10.0.0.9"\nendpoint-keeper = "servers"', ''] as const),
  ] as const)(
    '%s: servers that keep an address hear each other, with either firewall %s',
    (distribution, cluster, settings) => {
      const { n1, w1 } = configurationsOf({ distribution, cluster, settings })
      expect(n1?.networking.firewall).toMatchObject({
        extraCommands: 'ip46tables -A nixos-fw -p 112 -i eth0 -j nixos-fw-accept\n',
        extraStopCommands: 'ip46tables -D nixos-fw -p 112 -i eth0 -j nixos-fw-accept 2>/dev/null || true\n',
        extraInputRules: '',
      })
      expect(w1?.networking.firewall.extraCommands).toBe('')
      const nftables = `${settings} networking.nftables.enable = true;`
      expect(
        configurationsOf({ distribution, cluster, settings: nftables }).n1?.networking.firewall,
      ).toMatchObject({
        extraCommands: '',
        extraInputRules: 'iifname "eth0" meta l4proto 112 accept\n',
      })
      const closed = `${settings} muster.kubernetes.openFirewall = false;`
      expect(
        configurationsOf({ distribution, cluster, settings: closed }).n1?.networking.firewall,
      ).toMatchObject({
        extraCommands: '',
      })
    },
  )

  test('servers keep a virtual endpoint, the one whose API server is ready', () => {
    const cluster = 'endpoint = "10.0.0.9"\nendpoint-keeper = "servers"'
    for (const distribution of DISTRIBUTIONS) {
      const { n1, n2, w1 } = configurationsOf({ distribution, cluster })
      expect(n1?.keepalived).toMatchObject({
        enable: true,
        // Opened for the one interface instead.
        openFirewall: false,
        vrrpInstances: {
          'muster-endpoint': {
            interface: 'eth0',
            virtualIps: [{ addr: '10.0.0.9' }],
            trackScripts: ['muster-api'],
            state: 'BACKUP',
          },
        },
        // k3s and k0s tell nobody without a name: a client's certificate is shown, whose key is root's.
        vrrpScripts: {
          'muster-api': {
            script: expect.stringMatching(
              new RegExp(
                `/etc/muster/cluster/api-ready\\.sh \\S+/curl 6443 ${CLIENT[distribution]}\\.crt ${CLIENT[distribution]}\\.key$`,
              ),
            ),
            user: 'root',
          },
        },
      })
      expect(n1?.files).toHaveProperty(['muster/cluster/api-ready.sh'])
      expect(w1?.files).not.toHaveProperty(['muster/cluster/api-ready.sh'])
      expect(n2?.keepalived.vrrpInstances).toEqual(n1?.keepalived.vrrpInstances)
      expect(w1?.keepalived.enable).toBe(false)
    }
    const outside = configurationsOf({ distribution: 'k3s', cluster: 'endpoint = "10.0.0.9"' })
    expect(outside.n1?.keepalived.enable).toBe(false)
    const without = configurationsOf({
      distribution: 'k3s',
      cluster,
      settings: 'muster.interface = null; muster.network.enable = false;',
    })
    expect(without.n1?.failedAssertions).toEqual([
      expect.stringContaining('on which interface 10.0.0.9 is kept'),
    ])
  })

  test('no virtual endpoint is kept on a tunnel: it is one of the network that the hosts have in common', () => {
    const kept = (node: string) => {
      const cluster = `endpoint = "10.0.0.9"\nendpoint-keeper = "servers"\nnode-interface = "${node}"`
      const { n1 } = configurationsOf({ distribution: 'k3s', cluster, hosts: ONE })
      expect(n1?.failedAssertions).toEqual([])
      return n1?.keepalived.vrrpInstances['muster-endpoint']?.interface
    }
    for (const node of ['tailscale0', 'wg-home', 'tun1', 'wt0', 'wlan0', 'eth1', 'wtf'])
      expect([node, kept(node)]).toEqual([node, isTunnel(node) ? 'eth0' : node])
    const firewall = configurationsOf({
      distribution: 'k3s',
      cluster: 'endpoint = "10.0.0.9"\nendpoint-keeper = "servers"\nnode-interface = "tailscale0"',
      hosts: ONE,
    }).n1?.networking.firewall
    expect(firewall?.extraCommands).toBe('ip46tables -A nixos-fw -p 112 -i eth0 -j nixos-fw-accept\n')
    const none = configurationsOf({
      distribution: 'k3s',
      cluster: 'endpoint = "10.0.0.9"\nendpoint-keeper = "servers"',
      hosts: ONE,
      settings: 'muster.interface = "tailscale0";',
    })
    expect(none.n1?.failedAssertions).toEqual([expect.stringContaining('goes over a')])
  })

  test('names of all servers and the endpoint come into the certificates', () => {
    const cluster = 'endpoint = "c.home"'
    const names = ['c.home', 'n1', 'n2', 'n3', '10.0.0.11', '10.0.0.12', '10.0.0.13']
    expect(
      clusterFacts(machineOf(configurationsOf({ distribution: 'components', cluster }), 'n1')),
    ).toMatchObject({
      certificateNames: names,
    })
    const k3s = commandOf(machineOf(configurationsOf({ distribution: 'k3s', cluster }), 'n1'), 'k3s.service')
    for (const name of names) expect(k3s).toContain(`--tls-san=${name}`)
    const k0s =
      machineOf(configurationsOf({ distribution: 'k0s', cluster }), 'n2').files['k0s/k0s.yaml'] ?? '{}'
    expect(JSON.parse(k0s)).toMatchObject({
      spec: { api: { sans: names, address: '10.0.0.12', externalAddress: 'c.home' } },
    })
  })
})
