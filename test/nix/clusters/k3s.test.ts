import { describe, expect, test } from 'vitest'
import { whyNoNixTests } from '../nix-library.ts'
import {
  commandOf,
  configurationsOf,
  HOSTS,
  machineOf,
  ownConfigurationOf,
  service,
} from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`k3s ${why ?? ''}`, () => {
  test('passes what its module documents', () => {
    const made = configurationsOf({
      distribution: 'k3s',
      cluster: 'pod-cidr = "10.50.0.0/16"\nservice-cidr = "10.60.0.0/16"',
      hosts: HOSTS.replace(
        '[hosts.w1]',
        '[hosts.w1]\nlabels = { rack = "a", "node-role.kubernetes.io/x" = "y", "node.kubernetes.io/z" = "w" }',
      ),
    })
    expect(commandOf(machineOf(made, 'n1'), 'k3s.service').split('/bin/')[1]).toBe(
      'k3s server --token-file /run/muster-cluster/token --agent-token-file /run/muster-cluster/agent-token --node-name=n1 --node-taint=node-role.kubernetes.io/control-plane=:NoSchedule --node-ip=10.0.0.11 --tls-san=n1 --tls-san=n2 --tls-san=n3 --tls-san=10.0.0.11 --tls-san=10.0.0.12 --tls-san=10.0.0.13 --cluster-cidr=10.50.0.0/16 --service-cidr=10.60.0.0/16',
    )
    expect(commandOf(machineOf(made, 'w1'), 'k3s.service').split('/bin/')[1]).toBe(
      'k3s agent --token-file /run/muster-cluster/token --node-name=w1 --node-label=node.kubernetes.io/z=w --node-label=rack=a --node-ip=10.0.0.21',
    )
    expect(commandOf(machineOf(made, 'n3'), 'k3s.service')).not.toContain('taint')
    expect(service(machineOf(made, 'n1'), 'k3s.service').get('EnvironmentFile')).toEqual([
      '/run/muster-cluster/start.env',
    ])
  })

  test('Q8: has servers forget their passwords before each start: k3s makes them of the tokens that it is given', () => {
    const made = configurationsOf({ distribution: 'k3s' })
    const before = (host: string) => service(machineOf(made, host), 'k3s.service').get('ExecStartPre') ?? []
    for (const host of ['n1', 'n2', 'n3'])
      expect(before(host).at(-1)).toMatch(/\/rm -f \/var\/lib\/rancher\/k3s\/server\/cred\/passwd$/)
    expect(before('w1')).toEqual([])
  })

  test('leaves every option open, and its own file of variables beside ours', () => {
    const { n1 } = configurationsOf({
      distribution: 'k3s',
      settings:
        'services.k3s = { disable = [ "traefik" ]; extraFlags = [ "--etcd-expose-metrics" ]; environmentFile = "/run/keys/k3s"; nodeIP = "10.9.9.9"; tokenFile = "/run/keys/t"; };',
    })
    const command = commandOf(machineOf({ n1: n1! }, 'n1'), 'k3s.service')
    for (const word of [
      '--disable=traefik',
      '--etcd-expose-metrics',
      '--tls-san=n1',
      '--node-ip=10.9.9.9',
      '--token-file /run/keys/t',
    ]) {
      expect(command).toContain(word)
    }
    expect(service(machineOf({ n1: n1! }, 'n1'), 'k3s.service').get('EnvironmentFile')).toEqual([
      '/run/muster-cluster/start.env',
      '/run/keys/k3s',
    ])
  })

  const flagsOf = (settings: string) => {
    const made = configurationsOf({ distribution: 'k3s', cluster: 'node-interface = "eth0"', settings })
    return ['n1', 'w1'].map(host => commandOf(machineOf(made, host), 'k3s.service').split('node-ip=')[1])
  }

  test('takes a person’s flags as one string and as a list, after its own; what is forced is alone', () => {
    const names =
      '--tls-san=n1 --tls-san=n2 --tls-san=n3 --tls-san=10.0.0.11 --tls-san=10.0.0.12 --tls-san=10.0.0.13'
    const before = [`10.0.0.11 ${names} --flannel-iface=eth0`, '10.0.0.21 --flannel-iface=eth0']
    const more = '--disable=traefik --v=2'
    expect(flagsOf('')).toEqual(before)
    for (const flags of [`"${more}"`, 'toString [ "--disable=traefik" "--v=2" ]', `[ "${more}" ]`])
      expect(flagsOf(`services.k3s.extraFlags = ${flags};`)).toEqual(before.map(own => `${own} ${more}`))
    expect(flagsOf(`services.k3s.extraFlags = lib.mkForce "${more}";`)).toEqual([
      `10.0.0.11 ${more}`,
      `10.0.0.21 ${more}`,
    ])
  })

  test.each([
    ['services.k3s.token = "secret";', 'would lie in the store'],
    ['services.k3s.extraFlags = "--disable=traefik \\\\\\n\\t--cluster-init";', 'who founds the cluster'],
    ['services.k3s.clusterInit = true;', 'who founds the cluster'],
    ['services.k3s.serverAddr = "https://10.0.0.11:6443";', 'who founds the cluster'],
    ['services.k3s.extraFlags = [ "--data-dir=/srv/k3s" ];', 'mount a file system of your own there'],
    [
      'services.k3s.extraFlags = [ "--disable=traefik -d /srv/k3s" ];',
      'mount a file system of your own there',
    ],
    ['systemd.services.k3s.environment.K3S_DATA_DIR = "/srv";', 'mount a file system of your own there'],
    [
      'environment.etc."rancher/k3s/config.yaml".text = "disable: [traefik]\\ndata-dir: /srv";',
      'mount a file system of your own there',
    ],
    ['services.k3s.extraFlags = [ "--cluster-init" ];', 'who founds the cluster'],
    [
      'services.k3s.extraFlags = [ "--disable=traefik --server https://10.0.0.11:6443" ];',
      'who founds the cluster',
    ],
    [
      'environment.etc."rancher/k3s/config.yaml.d/mine.yaml".text = "cluster-init: true";',
      'who founds the cluster',
    ],
    ['services.k3s.extraFlags = [ "--token=secret" ];', 'would lie in the store'],
    ['services.k3s.extraFlags = [ "-t secret" ];', 'would lie in the store'],
    ['systemd.services.k3s.environment.K3S_AGENT_TOKEN = "secret";', 'would lie in the store'],
    [
      'services.k3s.extraFlags = [ "--datastore-endpoint=postgres://u:pw@db/k3s" ];',
      'the etcd that k3s runs',
    ],
    ['services.k3s.extraFlags = "--disable-etcd";', 'the etcd that k3s runs'],
    ['systemd.services.k3s.environment.K3S_DATASTORE_ENDPOINT = "mysql://db";', 'the etcd that k3s runs'],
    [
      'environment.etc."rancher/k3s/config.yaml".text = "datastore-endpoint: mysql://db";',
      'the etcd that k3s runs',
    ],
  ])('K6, K8, K15, K20: refuses %s', (settings, message) => {
    expect(configurationsOf({ distribution: 'k3s', settings }).n1?.failedAssertions).toEqual([
      expect.stringContaining(message),
    ])
  })

  test('K6: a cluster that ran before with another datastore is refused as well, and a worker has no datastore', () => {
    const settings = 'services.k3s.extraFlags = "--disable-etcd";'
    const existing = `${settings} muster.kubernetes.existing = true; services.k3s.enable = true; services.k3s.package = e.nixpkgs.packages.k3s_1_34;`
    const hosts = HOSTS.replace('[hosts.n1]', '[hosts.n1]\nconfig = "nixosConfigurations.n1"')
    const own = ownConfigurationOf('n1', { distribution: 'k3s', hosts, settings: existing })
    expect(own.failedAssertions).toEqual([expect.stringContaining('the etcd that k3s runs')])
    expect(configurationsOf({ distribution: 'k3s', settings }).w1?.failedAssertions).toEqual([])
  })

  const files = { tok: 's3cret', 'cfg.yaml': 'cluster-init: true\ntoken: s3cret' }

  test.each(['tokenFile', 'agentTokenFile', 'environmentFile'])(
    'K15: refuses a file of the store as %s, and a path literal, which would be copied there',
    option => {
      for (const file of ['SRC/tok', '("" + SRC/tok)', '(builtins.toFile "t" "s3cret")']) {
        const settings = `services.k3s.${option} = ${file};`
        expect(configurationsOf({ distribution: 'k3s', settings, files }).n1?.failedAssertions).toEqual([
          expect.stringContaining('a file of the store can be read by everybody'),
        ])
      }
    },
  )

  test.each([
    'environment.etc."rancher/k3s/config.yaml".source = SRC/cfg.yaml;',
    'environment.etc."rancher/k3s/config.yaml".source = "" + SRC/cfg.yaml;',
    'environment.etc."rancher/k3s/config.yaml.d/mine.yaml".source = "" + SRC + "/cfg.yaml";',
    'services.k3s.configPath = SRC/cfg.yaml;',
    'services.k3s.configPath = "" + SRC + "/cfg.yaml";',
  ])('K8, K15: refuses what a file says that is there, as it does the same text: %s', settings => {
    expect(configurationsOf({ distribution: 'k3s', settings, files }).n1?.failedAssertions).toEqual([
      expect.stringContaining('would lie in the store'),
      expect.stringContaining('who founds the cluster'),
    ])
  })

  test('takes flags and files that say nothing of that, and only begin alike', () => {
    const settings = `services.k3s.extraFlags = [ "--token-file=/run/keys/t" "--disable=servicelb" "--secrets-encryption" ];
      environment.etc."rancher/k3s/config.yaml".text = "server-ca: x\\nkubelet-arg:\\n- max-pods=200";`
    expect(configurationsOf({ distribution: 'k3s', settings }).n1?.failedAssertions).toEqual([])
  })
})
