import { describe, expect, test } from 'vitest'
import { type Described, unitSection } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import { commandOf, configurationsOf, HOSTS, machineOf, service } from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`k0s ${why ?? ''}`, () => {
  const words = (machine: Described) => commandOf(machine, 'k0s.service').split('/bin/')[1]

  test('passes what its module documents', () => {
    const made = configurationsOf({
      distribution: 'k0s',
      hosts: HOSTS.replace('[hosts.w1]', '[hosts.w1]\nlabels = { rack = "a" }'),
    })
    expect(words(machineOf(made, 'n1'))).toBe(
      'k0s controller --data-dir=/var/lib/k0s --config=/etc/k0s/k0s.yaml $MUSTER_K0S_JOIN --disable-components=autopilot',
    )
    expect(words(machineOf(made, 'n3'))).toBe(
      'k0s controller --data-dir=/var/lib/k0s --config=/etc/k0s/k0s.yaml --enable-worker --no-taints $MUSTER_K0S_JOIN --disable-components=autopilot --kubelet-extra-args=--node-ip=10.0.0.13',
    )
    expect(words(machineOf(made, 'w1'))).toBe(
      'k0s worker --data-dir=/var/lib/k0s --token-file=/run/muster-cluster/token --labels=rack=a --kubelet-extra-args=--node-ip=10.0.0.21',
    )
    expect(
      unitSection(machineOf(made, 'w1').units['k0s.service'], 'Unit').get('ConditionPathExists'),
    ).toContain('/run/muster-cluster/token')
    expect(JSON.parse(machineOf(made, 'n1').files['k0s/k0s.yaml'] ?? '')).toMatchObject({
      apiVersion: 'k0s.k0sproject.io/v1beta1',
      kind: 'Cluster',
      metadata: { name: 'c' },
      spec: {
        storage: { type: 'etcd', etcd: { peerAddress: '10.0.0.11' } },
        api: { port: 6443 },
        telemetry: { enabled: false },
      },
    })
  })

  test('K5, K10: controllers are members under their own addresses, and none replaces its own program', () => {
    const made = configurationsOf({ distribution: 'k0s' })
    for (const [name, address] of [
      ['n1', '10.0.0.11'],
      ['n2', '10.0.0.12'],
      ['n3', '10.0.0.13'],
    ] as const) {
      const { spec } = JSON.parse(machineOf(made, name).files['k0s/k0s.yaml'] ?? '{}')
      expect(spec.storage.etcd.peerAddress).toBe(address)
      expect(words(machineOf(made, name))).toContain('--disable-components=autopilot')
    }
  })

  test('R12: the configuration of a server whose address is found has a place for it', () => {
    const made = configurationsOf({ distribution: 'k0s', cluster: 'node-interface = "tailscale0"' })
    expect(words(machineOf(made, 'n1'))).toContain('--config=/run/muster-node/k0s.yaml')
    const { files, settings } = machineOf(made, 'n1')
    expect(JSON.parse(files['k0s/unfilled.yaml'] ?? '')).toMatchObject({
      spec: { api: { address: '@node-address@' }, storage: { etcd: { peerAddress: '@node-address@' } } },
    })
    // Where k0s' own commands look: the archive of a backup has to name the address at which it is restored.
    expect(files['k0s/k0s.yaml']).toBe('/run/muster-node/k0s.yaml')
    expect(settings['muster/cluster.json']).toMatchObject({ files: ['/etc/k0s/unfilled.yaml'] })
    // At each start, so that a restart brings what the configuration says by then.
    const pre = service(machineOf(made, 'n1'), 'k0s.service').get('ExecStartPre')
    expect(pre?.at(-1)).toMatch(
      /\/bash \/etc\/muster\/cluster\/k0s-config\.sh \/etc\/k0s\/unfilled\.yaml \/run\/muster-node\/k0s\.yaml$/,
    )
    expect(machineOf(made, 'n1').files).toHaveProperty(['muster/cluster/k0s-config.sh'])
    expect(service(machineOf(made, 'w1'), 'k0s.service').has('ExecStartPre')).toBe(false)
  })

  test.each([
    ['services.k0s.controller.isLeader = true;', 'who founds the cluster'],
    [
      'services.k0s.spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances = [ { virtualIPs = [ "10.0.0.9/24" ]; authPass = "x"; } ];',
      'authPass would lie in the store',
    ],
    [
      'services.k0s.spec.extensions.helm.repositories = [ { name = "a"; url = "https://a"; password = "x"; } ];',
      'would lie in the store',
    ],
    [
      'services.k0s.spec.storage.etcd.externalCluster = { endpoints = [ "https://e:2379" ]; etcdPrefix = "k"; };',
      'start an authority of its own',
    ],
    ['services.k0s.dataDir = "/srv/k0s";', 'mount a file system of your own there'],
    ['services.k0s.spec.storage.type = "kine";', 'grows by servers'],
    ['services.k0s.extraArgs = "--config=/x";', 'extraArgs must not hold'],
  ])('K6, K15: refuses %s', (settings, message) => {
    expect(configurationsOf({ distribution: 'k0s', settings }).n1?.failedAssertions).toEqual([
      expect.stringContaining(message),
    ])
  })

  test('K15: refuses a join token of the store, and a path literal, which would be copied there', () => {
    const files = { tok: 's3cret' }
    for (const file of ['SRC/tok', '("" + SRC/tok)']) {
      const settings = `services.k0s.tokenFile = ${file};`
      const { n1, w1 } = configurationsOf({ distribution: 'k0s', settings, files })
      for (const machine of [n1, w1])
        expect(machine?.failedAssertions).toEqual([
          expect.stringContaining('services.k0s.tokenFile: a file of'),
        ])
    }
    const outside = configurationsOf({ distribution: 'k0s', settings: 'services.k0s.tokenFile = "/run/t";' })
    expect(outside.w1?.failedAssertions).toEqual([])
    expect(words(machineOf(outside, 'w1'))).toContain('--token-file=/run/t')
  })

  test('k0s checks its configuration at the build where the program and the address come later, too', () => {
    const { n1 } = configurationsOf({
      distribution: 'k0s',
      cluster: 'version = "1.34.3"\nlife = "apart"\nnode-interface = "tailscale0"',
      settings: 'services.k0s.enableConfigCheck = true;',
    })
    expect(n1?.checks).toEqual([
      expect.stringMatching(
        /^sed s\/@node-address@\/192\.0\.2\.1\/g .*\n\/nix\/store\/\S+-k0s-1\.34\.3\+k0s\.0\/bin\/k0s config/,
      ),
    ])
    expect(n1?.failedAssertions).toEqual([])
  })

  const kubeletOf = (extraArgs: string) => {
    const settings = `services.k0s.extraArgs = ${JSON.stringify(extraArgs)};`
    const { w1 } = configurationsOf({ distribution: 'k0s', settings })
    return w1 && [words(w1)?.split('/run/muster-cluster/token ')[1], w1.failedAssertions]
  }

  test.each([
    ['--kubelet-extra-args=--max-pods=200', '"--kubelet-extra-args=--node-ip=10.0.0.21 --max-pods=200"'],
    [
      '--profile=large --kubelet-extra-args="--max-pods=200 --v=2" --debug',
      '"--kubelet-extra-args=--node-ip=10.0.0.21 --max-pods=200 --v=2" --profile=large --debug',
    ],
    [
      `--kubelet-extra-args '--node-ip=::1 --node-labels="a=b"'`,
      `'--kubelet-extra-args=--node-ip=10.0.0.21 --node-ip=::1 --node-labels="a=b"'`,
    ],
    ['--kubelet-extra-args --node-ip=[::1]', '"--kubelet-extra-args=--node-ip=10.0.0.21 --node-ip=[::1]"'],
    ['--profile=large', '--kubelet-extra-args=--node-ip=10.0.0.21 --profile=large'],
  ])('joins a person’s kubelet arguments with its own, for k0s takes one flag alone: %s', (given, made) => {
    expect(kubeletOf(given)).toEqual([made, []])
  })

  test.each([
    '"--kubelet-extra-args=--max-pods=200 --v=2"',
    '--kubelet-extra-args=--v=2 --kubelet-extra-args=--max-pods=200',
    '--kubelet-extra-args=--node-labels="a=b"',
  ])('refuses kubelet arguments that it cannot join, and names both: %s', given => {
    expect(kubeletOf(given)?.[1]).toEqual([
      expect.stringMatching(
        /services\.k0s\.extraArgs: its --kubelet-extra-args .* --kubelet-extra-args=--node-ip=10\.0\.0\.21/,
      ),
    ])
  })

  test('takes any key of k0s’ configuration, and drops what is of another kind of network or store', () => {
    const settings = `services.k0s.spec = {
      network.provider = "calico"; network.calico.wireguard = true;
      api.extraArgs."audit-log-path" = "/var/log/audit";
      featureGates = [ { name = "G"; enabled = true; components = [ "kubelet" ]; } ];
      images.default_pull_policy = "Never"; newer.key = 1; };`
    const { n1 } = configurationsOf({ distribution: 'k0s', settings })
    const { spec } = JSON.parse(n1?.files['k0s/k0s.yaml'] ?? '{}')
    expect(spec).toMatchObject({
      network: { provider: 'calico', calico: { wireguard: true, mode: 'vxlan' } },
      api: { extraArgs: { 'audit-log-path': '/var/log/audit' } },
      featureGates: [{ name: 'G', enabled: true, components: ['kubelet'] }],
      newer: { key: 1 },
    })
    expect(spec.network).not.toHaveProperty('kuberouter')
    expect(spec.storage).not.toHaveProperty('kine')
  })
})
