import { describe, expect, test } from 'vitest'
import { unitSection } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import {
  clusterFacts,
  commandOf,
  configurationsOf,
  DISTRIBUTIONS,
  type Distribution,
  flagOf,
  HOLD,
  HOSTS,
  machineOf,
  RUN,
  service,
  unitsOf,
} from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`nodes of every distribution ${why ?? ''}`, () => {
  const units: Record<Distribution, Record<'server' | 'server+worker' | 'worker', string[]>> = {
    k3s: { server: ['k3s'], 'server+worker': ['k3s'], worker: ['k3s'] },
    k0s: { server: ['k0s'], 'server+worker': ['k0s'], worker: ['k0s'] },
    kubernetes: {
      server: [
        'etcd',
        'kube-apiserver',
        'kube-controller-manager',
        'kube-scheduler',
        'kubelet',
        'kube-proxy',
        'flannel',
      ],
      'server+worker': [
        'etcd',
        'kube-apiserver',
        'kube-controller-manager',
        'kube-scheduler',
        'kubelet',
        'kube-proxy',
        'flannel',
      ],
      worker: ['kubelet', 'kube-proxy', 'flannel'],
    },
    components: {
      server: ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'],
      'server+worker': [
        'etcd',
        'kube-apiserver',
        'kube-controller-manager',
        'kube-scheduler',
        'kubelet',
        'kube-proxy',
      ],
      worker: ['kubelet', 'kube-proxy'],
    },
  }

  test.each(
    DISTRIBUTIONS.flatMap(distribution =>
      [
        'life = "apart"\nversion = "1.34.3"',
        'version = "1.34"',
        'node-interface = "tailscale0"\nendpoint = "c.home"',
      ].map(cluster => ({ distribution, cluster })),
    ),
  )(
    'K9: $distribution with $cluster: every role evaluates and has its units',
    ({ distribution, cluster }) => {
      const made = configurationsOf({ distribution, cluster })
      for (const [name, role] of [
        ['n1', 'server'],
        ['n3', 'server+worker'],
        ['w1', 'worker'],
      ] as const) {
        const machine = machineOf(made, name)
        expect(machine.failedAssertions).toEqual([])
        expect(unitsOf(machine)).toEqual(units[distribution][role].map(unit => `${unit}.service`))
        expect(Object.keys(machine.units)).toEqual(expect.arrayContaining(unitsOf(machine)))
        expect(clusterFacts(machine)).toMatchObject({ cluster: 'c', distribution, role })
      }
    },
  )

  test.each(DISTRIBUTIONS)(
    'K3: %s: units wait for the agent, and no switch starts, stops or restarts them',
    distribution => {
      const made = configurationsOf({ distribution })
      for (const machine of Object.values(made)) {
        for (const name of unitsOf(machine)) {
          const text = machine.units[name]
          const unit = unitSection(text, 'Unit')
          expect(unit.get('ConditionPathExists')).toEqual(
            expect.arrayContaining([`${RUN}/ready`, `!${HOLD}`]),
          )
          expect(unit.get('After')?.[0]?.split(' ')).toContain('muster-cluster-secrets.service')
          expect(unit.get('Wants')?.[0]?.split(' ')).toContain('muster-cluster-secrets.service')
          expect(unit.get('X-StopOnRemoval')).toEqual(['false'])
          expect(service(machine, name).get('X-RestartIfChanged')).toEqual(['false'])
          expect(service(machine, name).get('X-StopIfChanged')).toEqual(['false'])
          expect(unitSection(text, 'Install').has('WantedBy')).toBe(false)
        }
        expect(machine.units['kubernetes.target'] ?? '').not.toContain('WantedBy')
        const start = commandOf(machine, 'muster-kubernetes.service')
        expect(start.endsWith(`/bin/systemctl start --no-block ${unitsOf(machine).join(' ')}`)).toBe(true)
        expect(unitSection(machine.units['muster-kubernetes.service'], 'Install').get('WantedBy')).toEqual([
          'multi-user.target',
        ])
      }
    },
  )

  test.each(DISTRIBUTIONS)('K8: %s: who founds the cluster stands in no configuration', distribution => {
    const made = configurationsOf({ distribution, hosts: HOSTS.replace('server+worker', 'server') })
    // What all servers' certificates and joins name is the same list on each of them.
    const shared =
      /--tls-san=\S+|\\"sans\\":\[[^\]]*\]|\\"certificateNames\\":\[[^\]]*\]|\\"servers\\":\{[^}]*\}|\/nix\/store\/[a-z0-9]{32}-/g
    const text = (name: string, address: string) =>
      JSON.stringify({ units: machineOf(made, name).units, files: machineOf(made, name).files })
        .replaceAll(shared, '')
        .replaceAll(new RegExp(`\\b${name}\\b`, 'g'), 'NAME')
        .replaceAll(address, 'ADDRESS')
    expect(text('n2', '10.0.0.12')).toBe(text('n1', '10.0.0.11'))
    expect(text('n3', '10.0.0.13')).toBe(text('n1', '10.0.0.11'))
    expect(text('n1', '10.0.0.11')).not.toMatch(
      /cluster-init|isLeader|initial-cluster-state=new|ETCD_INITIAL_CLUSTER=/,
    )
  })

  test.each(DISTRIBUTIONS)(
    'K7: %s: a server that lost its datastore founds no other cluster',
    distribution => {
      const made = configurationsOf({ distribution })
      const store = {
        k3s: ['k3s.service', '/var/lib/rancher/k3s/server/db/etcd/member'],
        k0s: ['k0s.service', '/var/lib/k0s/etcd/member'],
        kubernetes: ['etcd.service', '/var/lib/etcd/member'],
        components: ['etcd.service', '/var/lib/etcd/member'],
      } as const
      const [unit, path] = store[distribution]
      expect(service(machineOf(made, 'n1'), unit).get('ExecStartPre')?.[0]).toMatch(
        new RegExp(
          `/bin/bash /etc/muster/cluster/datastore-guard.sh /var/lib/muster-agent/cluster/member ${path}$`,
        ),
      )
      expect(machineOf(made, 'w1').units[unit] ?? '').not.toContain('datastore-guard')
    },
  )

  test.each(DISTRIBUTIONS)(
    'T9, K15: %s: neither a unit nor a file of the store holds a secret, only paths outside',
    distribution => {
      const made = configurationsOf({ distribution })
      for (const machine of Object.values(made)) {
        for (const name of unitsOf(machine)) {
          const flags = [...commandOf(machine, name).matchAll(/--([a-z-]+)[= ](\S+)/g)]
          for (const [, flag = '', value = ''] of flags) {
            if (/(token|key|kubeconfig|private-key)(-file)?$/.test(flag) && value.startsWith('/')) {
              // The kubeconfigs of nixpkgs' module name files and hold none; a later flag takes their place.
              if (!flag.endsWith('kubeconfig')) expect(value).toMatch(/^\/(run|var\/lib)\//)
              else expect(flagOf(machine, name, flag)).toMatch(/^\/(run|var\/lib)\//)
            }
            expect(flag).not.toMatch(/^(token|agent-token)$/)
          }
          for (const file of service(machine, name).get('EnvironmentFile') ?? [])
            expect(file).toMatch(/^\/run\//)
        }
        expect(JSON.stringify(machine.files)).not.toMatch(
          /BEGIN [A-Z ]*KEY|"(token|password|client-key-data)":/,
        )
      }
    },
  )

  test('secrets are opened at every boot before the units, without network or coordinator, for root alone', () => {
    const text = machineOf(configurationsOf({ distribution: 'k3s' }), 'n1').units[
      'muster-cluster-secrets.service'
    ]
    expect(unitSection(text, 'Unit').has('After')).toBe(false)
    expect(unitSection(text, 'Unit').has('Wants')).toBe(false)
    expect(unitSection(text, 'Install').get('WantedBy')).toEqual(['multi-user.target'])
    expect(Object.fromEntries(unitSection(text, 'Service'))).toMatchObject({
      Type: ['oneshot'],
      RemainAfterExit: ['true'],
      RuntimeDirectory: ['muster-cluster'],
      RuntimeDirectoryMode: ['0700'],
      RuntimeDirectoryPreserve: ['true'],
      UMask: ['0077'],
      'X-RestartIfChanged': ['false'],
    })
    expect(unitSection(text, 'Service').get('ExecStart')?.[0]).toMatch(
      /\/bin\/muster-agent cluster-secrets --config \/etc\/muster\/agent\.json$/,
    )
  })

  test('a machine without a role has none of it', () => {
    const made = configurationsOf({
      distribution: 'k3s',
      hosts: `${HOSTS}[hosts.nas]\nrole = "none"\naddress = "10.0.0.30"`,
    })
    const { nas } = made
    expect(Object.keys(nas?.units ?? {}).filter(name => /k3s|cluster|kubernetes/.test(name))).toEqual([])
    expect(nas?.files).not.toHaveProperty('muster/cluster.json')
    expect(nas?.networking.firewall.allowedTCPPorts).toEqual([])
  })
})
