import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Described } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import {
  clusterFacts,
  commandOf,
  configurationsOf,
  flagOf,
  machineOf,
  service,
  unitsOf,
} from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`components, one by one ${why ?? ''}`, () => {
  test('has every flag that the parts need, with files in kubeadm’s layout', () => {
    const made = configurationsOf({ distribution: 'components', cluster: 'version = "1.34.3"' })
    const n1 = machineOf(made, 'n1')
    expect(commandOf(n1, 'etcd.service')).toMatch(
      /--name=n1 .*--trusted-ca-file=\/var\/lib\/kubernetes\/pki\/etcd\/ca\.crt/,
    )
    expect(commandOf(n1, 'etcd.service')).not.toMatch(/--initial-cluster(-state)?=/)
    expect(flagOf(n1, 'kube-apiserver.service', 'service-cluster-ip-range')).toBe('10.96.0.0/12')
    expect(flagOf(n1, 'kube-controller-manager.service', 'cluster-cidr')).toBe('10.244.0.0/16')
    const w1 = machineOf(made, 'w1')
    expect(commandOf(w1, 'kubelet.service').split('/bin/')[1]).toBe(
      'kubelet --bootstrap-kubeconfig=/run/muster-cluster/bootstrap-kubelet.conf --config=/etc/muster/kubernetes/kubelet.json --hostname-override=w1 --kubeconfig=/var/lib/kubernetes/kubelet.conf --node-ip=10.0.0.21',
    )
    expect(w1.settings['muster/kubernetes/kubelet.json']).toMatchObject({
      clusterDNS: ['10.96.0.10'],
      clusterDomain: 'cluster.local',
      rotateCertificates: true,
      cgroupDriver: 'systemd',
      authentication: { anonymous: { enabled: false } },
    })
    expect(service(w1, 'kubelet.service').get('KillMode')).toEqual(['process'])
    expect(service(n1, 'etcd.service').get('Type')).toEqual(['notify'])
  })

  test('ends an API server that is stopped within seconds: who asks meanwhile is sent to another', () => {
    const n1 = machineOf(configurationsOf({ distribution: 'components' }), 'n1')
    expect(flagOf(n1, 'kube-apiserver.service', 'shutdown-send-retry-after')).toBe('true')
    expect(service(n1, 'kube-apiserver.service').get('TimeoutStopSec')).toEqual(['70s'])
  })

  test('reaches every flag and setting: over the default, beside it, and away', () => {
    const settings = `muster.kubernetes.components = {
      apiserver.flags = { v = 4; authorization-mode = [ "RBAC" ]; enable-bootstrap-token-auth = null; feature-gates = { A = true; B = false; }; audit-log-path = "/var/log/a b"; };
      etcd.flags.snapshot-count = 5000;
      kubelet = { flags.node-ip = "10.9.9.9"; rotateCertificates = false; settings = { cgroupDriver = "cgroupfs"; authentication.webhook.cacheTTL = "1s"; }; };
      proxy.settings.mode = "ipvs"; };`
    const made = configurationsOf({ distribution: 'components', settings })
    const n1 = machineOf(made, 'n1')
    const apiserver = commandOf(n1, 'kube-apiserver.service')
    for (const word of [
      ' --v=4',
      ' --authorization-mode=RBAC ',
      ' --feature-gates=A=true,B=false ',
      ' "--audit-log-path=/var/log/a b"',
    ]) {
      expect(apiserver).toContain(word)
    }
    expect(apiserver).not.toContain('bootstrap-token')
    expect(flagOf(n1, 'etcd.service', 'snapshot-count')).toBe('5000')
    const w1 = machineOf(made, 'w1')
    expect(flagOf(w1, 'kubelet.service', 'node-ip')).toBe('10.9.9.9')
    expect(w1.settings['muster/kubernetes/kubelet.json']).toMatchObject({
      rotateCertificates: false,
      cgroupDriver: 'cgroupfs',
      authentication: { webhook: { enabled: true, cacheTTL: '1s' }, anonymous: { enabled: false } },
    })
    expect(w1.settings['muster/kubernetes/kube-proxy.json']).toMatchObject({
      mode: 'ipvs',
      clusterCIDR: '10.244.0.0/16',
    })
    expect(w1.files['containerd/config.toml']).toContain('SystemdCgroup = false')
  })

  test('takes each package for itself, on one host', () => {
    const files = { 'hosts/w1.nix': '{ muster.kubernetes.version = null; }' }
    const settings =
      'muster.kubernetes.components = { kubelet.package = e.nixpkgs.versioned "kubernetes" "1.33.7"; etcd.package = e.nixpkgs.package "etcd-3.6.7"; };'
    const made = configurationsOf({ distribution: 'components', settings, files })
    expect(commandOf(machineOf(made, 'w1'), 'kubelet.service')).toContain('kubernetes-1.33.7/bin/kubelet')
    expect(commandOf(machineOf(made, 'w1'), 'kube-proxy.service')).toContain(
      'kubernetes-1.34.3/bin/kube-proxy',
    )
    expect(commandOf(machineOf(made, 'n1'), 'etcd.service')).toContain('etcd-3.6.7/bin/etcd')
    expect(machineOf(made, 'w1').failedAssertions).toEqual([])
  })

  test('runs the control plane as static pods, which a switch does not restart', () => {
    const made = configurationsOf({
      distribution: 'components',
      cluster: 'version = "1.34.3"',
      settings:
        'muster.kubernetes.components.staticPods = { enable = true; repository = "images.home/k8s"; };',
    })
    const n1 = machineOf(made, 'n1')
    expect(n1.failedAssertions).toEqual([])
    expect(unitsOf(n1)).toEqual([
      'etcd.service',
      'muster-static-pods.service',
      'kubelet.service',
      'kube-proxy.service',
    ])
    expect(n1.units).not.toHaveProperty('kube-apiserver.service')
    const units = configurationsOf({ distribution: 'components', cluster: 'version = "1.34.3"' })
    const asUnit = commandOf(machineOf(units, 'n1'), 'kube-apiserver.service').split('/bin/')[1]
    expect(n1.settings['muster/kubernetes/manifests/kube-apiserver.json']).toMatchObject({
      kind: 'Pod',
      spec: {
        hostNetwork: true,
        containers: [{ image: 'images.home/k8s/kube-apiserver:v1.34.3', command: asUnit?.split(' ') }],
      },
    })
    expect(n1.settings['muster/kubernetes/kubelet.json']).toMatchObject({
      staticPodPath: '/var/lib/kubernetes/manifests',
    })
    expect(service(n1, 'muster-static-pods.service').get('X-RestartIfChanged')).toEqual(['false'])
    const found = configurationsOf({
      distribution: 'components',
      cluster: 'node-interface = "wg0"',
      settings: 'muster.kubernetes.components.staticPods.enable = true;',
    })
    expect(found.n1?.failedAssertions).toEqual([
      expect.stringContaining('needs the version whose images it runs'),
      expect.stringContaining('nothing says where its images are'),
      expect.stringContaining("needs the node's address beforehand"),
    ])
  })

  test('lets the runtime be containerd, cri-o or one’s own, and the network plugins chosen', () => {
    const of = (settings: string) =>
      machineOf(configurationsOf({ distribution: 'components', settings }), 'w1')
    const crio = of('muster.kubernetes.components.runtime.kind = "cri-o";')
    expect(crio.units).not.toHaveProperty('containerd.service')
    expect(service(crio, 'crio.service').get('X-RestartIfChanged')).toEqual(['false'])
    expect(crio.settings['muster/kubernetes/kubelet.json']).toMatchObject({
      containerRuntimeEndpoint: 'unix:///var/run/crio/crio.sock',
    })
    expect(crio.files['crio/crio.conf.d/00-default.conf']).toContain('cgroup_manager = "systemd"')
    // cri-o takes the first network by its name, and its own would come before whatever is meant.
    const networks = (machine: Described) =>
      Object.keys(machine.files).filter(name => name.startsWith('cni/net.d/'))
    expect(networks(crio)).toEqual([])
    const bridged =
      'muster.kubernetes.components = { runtime.kind = "cri-o"; cni.config = { cniVersion = "1.0.0"; name = "x"; plugins = [ ]; }; };'
    expect(networks(of(bridged))).toEqual(['cni/net.d/10-muster.conflist'])
    const kept =
      'environment.etc."cni/net.d/10-crio-bridge.conflist" = { enable = true; source = lib.mkDefault (builtins.toFile "c" "{}"); };'
    expect(networks(of(`muster.kubernetes.components.runtime.kind = "cri-o"; ${kept}`))).toEqual([
      'cni/net.d/10-crio-bridge.conflist',
    ])
    // By it the pods of a machine are ended that leaves.
    expect(clusterFacts(crio)).toMatchObject({
      kubelet: { folder: '/var/lib/kubelet', runtime: 'unix:///var/run/crio/crio.sock' },
    })
    const elsewhere = of('muster.kubernetes.components.kubelet.flags.root-dir = "/srv/kubelet";')
    expect(clusterFacts(elsewhere)).toMatchObject({ kubelet: { folder: '/srv/kubelet' } })
    const own = of(
      'muster.kubernetes.components.runtime = { kind = "none"; endpoint = "unix:///run/own.sock"; };',
    )
    expect(Object.keys(own.units)).not.toEqual(expect.arrayContaining(['containerd.service']))
    expect(own.settings['muster/kubernetes/kubelet.json']).toMatchObject({
      containerRuntimeEndpoint: 'unix:///run/own.sock',
    })
    const cni = of(
      'muster.kubernetes.components.cni = { packages = [ e.nixpkgs.packages.flannel ]; config = { cniVersion = "1.0.0"; name = "x"; plugins = [ ]; }; };',
    )
    expect(service(cni, 'kubelet.service').get('ExecStartPre')?.[0]).toMatch(
      /cni-links\.sh \/opt\/cni\/bin \/nix\/store\/0+-flannel$/,
    )
    expect(JSON.parse(cni.files['cni/net.d/10-muster.conflist'] ?? '')).toMatchObject({ name: 'x' })
    expect(of('').files).not.toHaveProperty('cni/net.d/10-muster.conflist')
  })

  test('the example of the manual evaluates, and machines join what it makes', () => {
    const page = readFileSync(join(import.meta.dirname, '../../../docs/clusters.md'), 'utf8')
    const example = /^## components\n\n```nix\n(\{.*?\n\})\n```/ms.exec(page)?.[1] ?? ''
    const made = configurationsOf({
      distribution: 'components',
      cluster: 'version = "1.34.3"',
      settings: `imports = [ (let pkgs-2511.kubernetes = e.nixpkgs.versioned "kubernetes" "1.34.3"; in ${example}) ];`,
    })
    for (const machine of Object.values(made)) expect(machine.failedAssertions).toEqual([])
    const pod = JSON.parse(
      machineOf(made, 'n1').files['muster/kubernetes/manifests/kube-apiserver.json'] ?? '',
    )
    const [container] = pod.spec.containers
    expect(container.image).toBe('registry.k8s.io/kube-apiserver:v1.34.3')
    expect(container.command).toEqual(
      expect.arrayContaining(['--v=2', '--event-ttl=3h', '--enable-bootstrap-token-auth=true']),
    )
    expect(container.command.join(' ')).not.toContain('kubelet-preferred-address-types')
  })

  test.each([
    ['components', 'muster.kubernetes.components.apiserver.flags.enable-bootstrap-token-auth = null;'],
    ['components', 'muster.kubernetes.components.apiserver.flags.enable-bootstrap-token-auth = false;'],
    ['kubernetes', 'services.kubernetes.apiserver.extraOpts = "--v=2 --enable-bootstrap-token-auth=false";'],
  ] as const)('%s: an API server that lets nobody join is refused: %s', (distribution, settings) => {
    const { n1, w1 } = configurationsOf({ distribution, settings })
    expect(n1?.failedAssertions).toEqual([expect.stringContaining('machines join by such a token')])
    expect(w1?.failedAssertions).toEqual([])
  })

  test('cri-o looks for plugins where they are linked, and puts pods into the kubelet’s kind of groups', () => {
    const fileOf = (settings: string) =>
      machineOf(
        configurationsOf({
          distribution: 'components',
          settings: `muster.kubernetes.components.runtime.kind = "cri-o"; ${settings}`,
        }),
        'w1',
      ).files['crio/crio.conf.d/00-default.conf'] ?? ''
    const dirs = (file: string) => JSON.parse(/plugin_dirs = (.*)/.exec(file)?.[1] ?? '[]')
    expect(dirs(fileOf(''))).toEqual(['/opt/cni/bin', expect.stringMatching(/-cni-plugins\/bin$/)])
    expect(dirs(fileOf('muster.kubernetes.components.cni.binDir = "/srv/cni";'))[0]).toBe('/srv/cni')
    expect(fileOf('')).toContain('cgroup_manager = "systemd"')
    const cgroupfs = 'muster.kubernetes.components.kubelet.settings.cgroupDriver = "cgroupfs";'
    expect(fileOf(cgroupfs)).toContain('cgroup_manager = "cgroupfs"')
    const open = 'virtualisation.cri-o.settings.crio.runtime.log_level = lib.mkForce "debug";'
    expect(fileOf(open)).toContain('log_level = "debug"')
  })

  test.each([
    ['etcd.enable = false;', ['every server is a member of its etcd']],
    [
      'etcd.endpoints = [ "https://127.0.0.1:2379" "https://e1:2379" ]; ',
      ['its state in https://e1:2379, and no'],
    ],
    [
      'etcd = { enable = false; endpoints = [ "https://e1:2379" "https://e2:2379" ]; };',
      ['every server is a member of its etcd', 'its state in https://e1:2379, https://e2:2379, and no'],
    ],
    [
      'apiserver.flags.etcd-servers = "https://10.0.0.12:2379,http://e3:2379";',
      ['its state in http://e3:2379, and no'],
    ],
    // The port of another cluster's etcd on a server.
    ['etcd.endpoints = [ "https://10.0.0.12:12379" ];', ['its state in https://10.0.0.12:12379, and no']],
  ])('refuses an etcd that is not its own: %s', (settings, messages) => {
    const { n1 } = configurationsOf({
      distribution: 'components',
      settings: `muster.kubernetes.components = { ${settings} };`,
    })
    expect(n1?.failedAssertions).toEqual(messages.map(message => expect.stringContaining(message)))
  })

  test('refuses etcd on a worker, and takes other servers of the cluster beside a server itself', () => {
    const made = configurationsOf({
      distribution: 'components',
      settings:
        'muster.kubernetes.components.etcd.endpoints = [ "https://127.0.0.1:2379" "https://n2:2379" "https://10.0.0.12:2379" ];',
    })
    expect(flagOf(machineOf(made, 'n1'), 'kube-apiserver.service', 'etcd-servers')).toBe(
      'https://127.0.0.1:2379,https://n2:2379,https://10.0.0.12:2379',
    )
    for (const machine of Object.values(made)) expect(machine.failedAssertions).toEqual([])
    const { w1 } = configurationsOf({
      distribution: 'components',
      settings: 'muster.kubernetes.components.etcd.enable = true;',
    })
    expect(w1?.failedAssertions).toEqual([expect.stringContaining('every server is a member of its etcd')])
  })
})
