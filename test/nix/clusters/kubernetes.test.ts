import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { whyNoNixTests } from '../nix-library.ts'
import {
  clusterFacts,
  configurationsOf,
  flagOf,
  HOSTS,
  machineOf,
  service,
  unitsOf,
} from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`services.kubernetes of nixpkgs ${why ?? ''}`, () => {
  const P = '/var/lib/kubernetes'

  test('K18: has the certificates of the agent in kubeadm’s layout, and no easyCerts', () => {
    const made = configurationsOf({ distribution: 'kubernetes' })
    const n1 = machineOf(made, 'n1')
    const flags = (unit: string, list: readonly string[]) =>
      Object.fromEntries(list.map(flag => [flag, flagOf(n1, `${unit}.service`, flag)]))
    expect(
      flags('kube-apiserver', [
        'client-ca-file',
        'tls-private-key-file',
        'etcd-keyfile',
        'service-account-key-file',
        'service-account-signing-key-file',
        'etcd-servers',
        'advertise-address',
        'enable-bootstrap-token-auth',
        'requestheader-client-ca-file',
        'kubelet-certificate-authority',
      ]),
    ).toEqual({
      'client-ca-file': `${P}/pki/ca.crt`,
      'tls-private-key-file': `${P}/pki/apiserver.key`,
      'etcd-keyfile': `${P}/pki/apiserver-etcd-client.key`,
      'service-account-key-file': `${P}/pki/sa.pub`,
      'service-account-signing-key-file': `${P}/pki/sa.key`,
      'etcd-servers': 'https://127.0.0.1:2379',
      'advertise-address': '10.0.0.11',
      'enable-bootstrap-token-auth': 'true',
      'requestheader-client-ca-file': `${P}/pki/front-proxy-ca.crt`,
      'kubelet-certificate-authority': undefined,
    })
    expect(flagOf(n1, 'kube-controller-manager.service', 'kubeconfig')).toBe(`${P}/controller-manager.conf`)
    expect(flagOf(n1, 'kube-scheduler.service', 'kubeconfig')).toBe(`${P}/scheduler.conf`)
    const w1 = machineOf(made, 'w1')
    expect(flagOf(w1, 'kubelet.service', 'kubeconfig')).toBe(`${P}/kubelet.conf`)
    expect(flagOf(w1, 'kubelet.service', 'bootstrap-kubeconfig')).toBe(
      '/run/muster-cluster/bootstrap-kubelet.conf',
    )
    expect(flagOf(w1, 'kubelet.service', 'hostname-override')).toBe('w1')
    expect(flagOf(w1, 'kube-proxy.service', 'kubeconfig')).toBe(`${P}/kubelet.conf`)
  })

  test('tells pods the name service at the tenth address of the services, as components do, and nobody else’s', () => {
    const dnsOf = (settings: string, cluster = '') => {
      const made = machineOf(configurationsOf({ distribution: 'kubernetes', cluster, settings }), 'w1')
      const path = flagOf(made, 'kubelet.service', 'config') ?? ''
      return JSON.parse(readFileSync(path, 'utf8')).clusterDNS
    }
    expect(dnsOf('')).toEqual(['10.0.0.10'])
    expect(dnsOf('muster.kubernetes.serviceCidr = "10.96.0.0/12";')).toEqual(['10.96.0.10'])
    expect(dnsOf('services.kubernetes.addons.dns.enable = true;')).toEqual(['10.0.0.254'])
    expect(dnsOf('services.kubernetes.kubelet.clusterDns = [ "10.0.0.53" ];')).toEqual(['10.0.0.53'])
  })

  test('has flannel speak where the nodes do', () => {
    const ifaceOf = (cluster: string, settings = '') => {
      const w1 = machineOf(configurationsOf({ distribution: 'kubernetes', cluster, settings }), 'w1')
      return /FLANNELD_IFACE=([^"\n]+)/.exec(w1.units['flannel.service'] ?? '')?.[1]
    }
    expect(ifaceOf('node-interface = "tailscale0"')).toBe('tailscale0')
    // An address is an interface to it, too.
    expect(ifaceOf('')).toBe('10.0.0.21')
    expect(ifaceOf('', 'services.flannel.iface = "eth7";')).toBe('eth7')
    expect(ifaceOf('', 'muster.kubernetes.nodeDnsName = "w1.tail1234.ts.net";')).toBeUndefined()
  })

  test('ends an API server that is stopped within seconds: who asks meanwhile is sent to another', () => {
    const n1 = machineOf(configurationsOf({ distribution: 'kubernetes' }), 'n1')
    expect(flagOf(n1, 'kube-apiserver.service', 'shutdown-send-retry-after')).toBe('true')
    expect(service(n1, 'kube-apiserver.service').get('TimeoutStopSec')).toEqual(['70s'])
  })

  test('etcd is a member whose fellows the agent names', () => {
    const n2 = machineOf(configurationsOf({ distribution: 'kubernetes' }), 'n2')
    const environment = service(n2, 'etcd.service').get('Environment') ?? []
    expect(environment).toEqual(
      expect.arrayContaining([
        '"ETCD_NAME=n2"',
        '"ETCD_LISTEN_PEER_URLS=https://10.0.0.12:2380"',
        '"ETCD_INITIAL_CLUSTER_STATE=existing"',
        '"ETCD_PEER_CLIENT_CERT_AUTH=1"',
      ]),
    )
    expect(environment.join()).not.toContain('ETCD_INITIAL_CLUSTER=')
    expect(service(n2, 'etcd.service').get('EnvironmentFile')).toEqual(['/run/muster-cluster/start.env'])
    const found = machineOf(
      configurationsOf({ distribution: 'kubernetes', cluster: 'node-interface = "wg0"' }),
      'n2',
    )
    expect(service(found, 'etcd.service').get('EnvironmentFile')).toEqual([
      '/run/muster-cluster/start.env',
      '/run/muster-node/etcd.env',
    ])
    expect((service(found, 'etcd.service').get('Environment') ?? []).join()).not.toMatch(/PEER_URLS|10\.0\.0/)
  })

  test('leaves every option open: what is written goes before ours, and flags come beside ours', () => {
    const settings = `services.kubernetes = {
      clusterCidr = "10.9.0.0/16";
      flannel.enable = false;
      proxy.enable = false;
      apiserver = { authorizationMode = [ "RBAC" ]; extraOpts = "--audit-log-path=/var/log/audit"; etcd.servers = [ "https://10.0.0.12:2379" ]; securePort = 7443; tlsKeyFile = "/run/keys/own.key"; };
      controllerManager.extraOpts = "--v=4";
      scheduler.extraOpts = "--v=5";
      kubelet = { extraOpts = "--v=6"; nodeIp = "10.9.9.9"; extraConfig.maxPods = 7; cni.config = [ { name = "own"; type = "bridge"; } ]; clusterDns = [ "10.0.0.53" ]; };
      easyCerts = false; package = e.nixpkgs.versioned "kubernetes" "1.34.3"; };
      services.etcd.dataDir = "/srv/etcd"; services.etcd.keyFile = "/run/keys/etcd.key";`
    const n1 = machineOf(configurationsOf({ distribution: 'kubernetes', settings }), 'n1')
    expect(n1.failedAssertions).toEqual([])
    const flags = {
      'kube-apiserver': {
        'authorization-mode': 'RBAC',
        'audit-log-path': '/var/log/audit',
        'secure-port': '7443',
        'etcd-servers': 'https://10.0.0.12:2379',
        'tls-private-key-file': '/run/keys/own.key',
        // Ours, beside them.
        'enable-bootstrap-token-auth': 'true',
        'client-ca-file': `${P}/pki/ca.crt`,
      },
      'kube-controller-manager': {
        v: '4',
        'cluster-cidr': '10.9.0.0/16',
        kubeconfig: `${P}/controller-manager.conf`,
      },
      'kube-scheduler': { v: '5', kubeconfig: `${P}/scheduler.conf` },
      kubelet: { v: '6', 'node-ip': '10.9.9.9', kubeconfig: `${P}/kubelet.conf` },
    }
    for (const [unit, wanted] of Object.entries(flags)) {
      const made = Object.keys(wanted).map(flag => [flag, flagOf(n1, `${unit}.service`, flag)])
      expect(Object.fromEntries(made), unit).toEqual(wanted)
    }
    expect(unitsOf(n1)).toEqual([
      ...['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet'].map(
        name => `${name}.service`,
      ),
    ])
    const environment = service(n1, 'etcd.service').get('Environment') ?? []
    expect(environment).toEqual(
      expect.arrayContaining(['"ETCD_DATA_DIR=/srv/etcd"', '"ETCD_KEY_FILE=/run/keys/etcd.key"']),
    )
    // What guards the datastore looks where it is.
    expect(service(n1, 'etcd.service').get('ExecStartPre')?.[0]).toMatch(/ \/srv\/etcd\/member$/)
    // And so do a restore and a wipe.
    expect(clusterFacts(n1)).toMatchObject({
      etcdDataDir: '/srv/etcd',
      kubelet: { folder: '/var/lib/kubernetes', runtime: 'unix:///run/containerd/containerd.sock' },
    })
  })

  test.each([
    ['services.kubernetes.apiserver.etcd.servers = [ "https://e1:2379" ];', 'elsewhere (https://e1:2379)'],
    ['services.etcd.enable = lib.mkForce false;', 'services.etcd.enable is false'],
  ])('refuses an etcd that is not its own: %s', (settings, message) => {
    expect(configurationsOf({ distribution: 'kubernetes', settings }).n1?.failedAssertions).toEqual([
      expect.stringContaining(message),
    ])
  })

  test.each([
    ['n1', '[hosts.n1]\nrole = "server"\naddress = "10.0.0.11"\n'],
    ['n1', HOSTS],
    ['w1', HOSTS],
  ])('K17: easyCerts, whose units nobody would ever let start, is refused on %s', (host, hosts) => {
    const settings = `services.kubernetes = { easyCerts = true;
      apiserver = { serviceAccountKeyFile = "/x"; serviceAccountSigningKeyFile = "/x"; }; };`
    const refused = configurationsOf({ distribution: 'kubernetes', hosts, settings })
    expect(refused[host]?.failedAssertions).toEqual([
      expect.stringMatching(/neither founded nor adopted[\s\S]*muster\.kubernetes\.enable = false/),
    ])
    // The system alone, as the message says.
    const without = configurationsOf({
      distribution: 'kubernetes',
      hosts,
      settings: `${settings} muster.kubernetes.enable = false;`,
    })
    expect(without[host]?.failedAssertions).toEqual([])
    expect(without[host]?.files).not.toHaveProperty(['muster/cluster.json'])
  })

  test('labels and taints reach the kubelet, and a malformed taint is named', () => {
    const hosts = HOSTS.replace('[hosts.w1]', '[hosts.w1]\nlabels = { rack = "a" }')
    const { w1, n1 } = configurationsOf({ distribution: 'kubernetes', hosts })
    expect(flagOf(machineOf({ w1: w1! }, 'w1'), 'kubelet.service', 'node-labels')).toBe('rack=a')
    expect(flagOf(machineOf({ n1: n1! }, 'n1'), 'kubelet.service', 'register-with-taints')).toContain(
      'node-role.kubernetes.io/control-plane=:NoSchedule',
    )
    expect(() =>
      configurationsOf({ distribution: 'kubernetes', settings: 'muster.kubernetes.nodeTaints = [ "x" ];' }),
    ).toThrow(/x is no taint/)
  })

  test('every taint reaches the kubelet, also two of one key', () => {
    const settings =
      'muster.kubernetes.nodeTaints = [ "dedicated=gpu:NoSchedule" "dedicated=gpu:NoExecute" "x:NoSchedule" ];'
    const w1 = machineOf(configurationsOf({ distribution: 'kubernetes', settings }), 'w1')
    expect(flagOf(w1, 'kubelet.service', 'register-with-taints')?.split(',').sort()).toEqual([
      'dedicated=gpu:NoExecute',
      'dedicated=gpu:NoSchedule',
      'x=:NoSchedule',
    ])
  })
})
