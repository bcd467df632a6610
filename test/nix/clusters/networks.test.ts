import { describe, expect, test } from 'vitest'
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

  test('node-interface that is the host’s own interface keeps the fixed address', () => {
    const machine = machineOf(
      configurationsOf({ distribution: 'k3s', cluster: 'node-interface = "eth0"' }),
      'n1',
    )
    expect(flagOf(machine, 'k3s.service', 'node-ip')).toBe('10.0.0.11')
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
    ['k3s', [6443, 10250, 2379, 2380], [10250], [8472]],
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

  test('servers keep a virtual endpoint, the one whose API server is ready', () => {
    const cluster = 'endpoint = "10.0.0.9"\nendpoint-keeper = "servers"'
    for (const distribution of DISTRIBUTIONS) {
      const { n1, n2, w1 } = configurationsOf({ distribution, cluster })
      expect(n1?.keepalived).toMatchObject({
        enable: true,
        openFirewall: true,
        vrrpInstances: {
          'muster-endpoint': {
            interface: 'eth0',
            virtualIps: [{ addr: '10.0.0.9' }],
            trackScripts: ['muster-api'],
            state: 'BACKUP',
          },
        },
        vrrpScripts: { 'muster-api': { script: expect.stringContaining('https://127.0.0.1:6443/readyz') } },
      })
      expect(n2?.keepalived.vrrpInstances).toEqual(n1?.keepalived.vrrpInstances)
      expect(w1?.keepalived.enable).toBe(false)
    }
    const outside = configurationsOf({ distribution: 'k3s', cluster: 'endpoint = "10.0.0.9"' })
    expect(outside.n1?.keepalived.enable).toBe(false)
    const without = configurationsOf({
      distribution: 'k3s',
      cluster,
      hosts: HOSTS.replaceAll('interface', 'x'),
      settings: 'muster.interface = lib.mkForce null;',
    })
    expect(without.n1?.failedAssertions).toEqual([
      expect.stringContaining('on which interface 10.0.0.9 is kept'),
    ])
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
