import { describe, expect, test } from 'vitest'
import { describeModule, unitSection } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import { commandOf, service } from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(
  `services.k0s alone, as users of the public flake have it ${why ?? ''}`,
  () => {
    const package_ = 'package = e.nixpkgs.package "k0s";'
    const alone = (settings: string) =>
      describeModule('k0s', `{ services.k0s = { enable = true; ${package_} ${settings} }; }`)
    const start = (settings: string) => commandOf(alone(settings), 'k0s.service').split('/bin/')[1]
    const condition = (settings: string) =>
      unitSection(alone(settings).units['k0s.service'], 'Unit').get('ConditionPathExists')
    const spec = 'spec.api = { address = "10.0.0.11"; sans = [ "10.0.0.10" "10.0.0.11" ]; };'

    test('a leader needs no token; a further controller and a worker wait for theirs', () => {
      const leader = `role = "controller"; controller.isLeader = true; clusterName = "c1"; ${spec} extraArgs = "--disable-components=autopilot";`
      expect(start(leader)).toMatch(
        /^k0s controller --data-dir=\/var\/lib\/k0s --config=\/nix\/store\/[a-z0-9]{32}-k0s\.yaml --disable-components=autopilot$/,
      )
      expect(condition(leader)).toBeUndefined()
      const further = `role = "controller+worker"; tokenFile = "/var/lib/t"; ${spec}`
      expect(start(further)).toMatch(/--config=\S+ --enable-worker --no-taints --token-file=\/var\/lib\/t$/)
      expect(condition(further)).toEqual(['/var/lib/t'])
      expect(start('role = "worker"; spec.api.address = "10.0.0.11";')).toBe(
        'k0s worker --data-dir=/var/lib/k0s --token-file=/etc/k0s/k0stoken',
      )
      expect(condition('role = "worker"; spec.api.address = "10.0.0.11";')).toEqual(['/etc/k0s/k0stoken'])
    })

    test('a single node, and a controller with an etcd of its own, need none either', () => {
      expect(start(spec)).toMatch(/--config=\S+ --single$/)
      const external = `role = "controller"; ${spec} spec.storage.etcd.externalCluster = { endpoints = [ "https://e:2379" ]; etcdPrefix = "k"; };`
      expect(start(external)).not.toContain('token')
      expect(condition(external)).toBeUndefined()
    })

    test('has the unit, the file and the users that the public module has', () => {
      const machine = alone(
        `role = "controller"; dataDir = "/srv/k0s"; ${spec} spec.installConfig.users.etcdUser = "e";`,
      )
      expect(Object.fromEntries(service(machine, 'k0s.service'))).toMatchObject({
        Restart: ['always'],
        RestartSec: ['120'],
        KillMode: ['process'],
        TimeoutStartSec: ['0'],
        LimitNOFILE: ['999999'],
      })
      expect(unitSection(machine.units['k0s.service'], 'Install').get('WantedBy')).toEqual([
        'multi-user.target',
      ])
      expect(Object.keys(machine.users).sort()).toEqual([
        'e',
        'konnectivity-server',
        'kube-apiserver',
        'kube-scheduler',
      ])
      expect(machine.users.e).toMatchObject({ isSystemUser: true })
      expect(JSON.parse(machine.files['k0s/k0s.yaml'] ?? '')).toMatchObject({
        metadata: { name: 'k0s' },
        spec: {
          api: { sans: ['10.0.0.10', '10.0.0.11'] },
          network: { podCIDR: '10.244.0.0/16', kuberouter: { autoMTU: true } },
        },
      })
    })

    test('the package comes from an overlay where there is one, and has no default else', () => {
      expect(() => describeModule('k0s', `{ services.k0s = { enable = true; ${spec} }; }`)).toThrow(
        /services\.k0s\.package/,
      )
    })

    const configurationOf = (settings: string) =>
      JSON.parse(alone(settings).files['k0s/k0s.yaml'] ?? '{}') as { spec: Record<string, unknown> }

    test('has the public module’s defaults', () => {
      const { spec: made } = configurationOf('role = "controller"; spec.api.address = "10.0.0.11";')
      expect(made).toMatchObject({
        api: {
          address: '10.0.0.11',
          externalAddress: '',
          extraArgs: {},
          k0sApiPort: 9443,
          port: 6443,
          sans: [],
        },
        storage: { type: 'etcd', etcd: { peerAddress: '127.0.0.1', extraArgs: {}, externalCluster: null } },
        network: {
          provider: 'kuberouter',
          podCIDR: '10.244.0.0/16',
          serviceCIDR: '10.96.0.0/12',
          clusterDomain: 'cluster.local',
          kuberouter: {
            autoMTU: true,
            mtu: 0,
            metricsPort: 8080,
            hairpin: 'Enabled',
            ipMasq: false,
            extraArgs: {},
          },
          kubeProxy: { disabled: false, mode: 'iptables', metricsBindAddress: '0.0.0.0:10249' },
          nodeLocalLoadBalancing: { enabled: false, type: 'EnvoyProxy' },
          controlPlaneLoadBalancing: { enabled: false, type: 'Keepalived' },
        },
        konnectivity: { adminPort: 8133, agentPort: 8132 },
        telemetry: { enabled: false },
        workerProfiles: [],
        featureGates: [],
        images: {},
        installConfig: {
          users: {
            etcdUser: 'etcd',
            kineUser: 'kube-apiserver',
            konnectivityUser: 'konnectivity-server',
            kubeAPIserverUser: 'kube-apiserver',
            kubeSchedulerUser: 'kube-scheduler',
          },
        },
      })
      const kine = configurationOf('spec.api.address = "10.0.0.11"; spec.storage.type = "kine";')
      expect(kine.spec.storage).toEqual({
        type: 'kine',
        kine: { dataSource: 'sqlite:///var/lib/k0s/db/state.db?mode=rwc&_journal=WAL&cache=shared' },
      })
      const calico = configurationOf('spec.api.address = "10.0.0.11"; spec.network.provider = "calico";')
      expect(calico.spec.network).toMatchObject({
        calico: {
          mode: 'vxlan',
          overlay: 'Always',
          vxlanPort: 4789,
          vxlanVNI: 4096,
          mtu: 0,
          wireguard: false,
          ipAutodetectionMethod: '',
          ipV6AutodetectionMethod: '',
          envVars: {},
        },
      })
    })

    test('takes every option that the public module has, and writes it down', () => {
      const written = {
        api: {
          address: '10.0.0.1',
          externalAddress: 'k.home',
          k0sApiPort: 9444,
          port: 6444,
          extraArgs: { v: '2' },
          sans: ['a'],
        },
        storage: {
          type: 'etcd',
          etcd: {
            peerAddress: '10.0.0.1',
            extraArgs: { a: 'b' },
            externalCluster: {
              endpoints: ['https://e:2379'],
              etcdPrefix: 'p',
              caFile: '/ca',
              clientCertFile: '/crt',
              clientKeyFile: '/key',
            },
          },
        },
        network: {
          provider: 'calico',
          podCIDR: '10.1.0.0/16',
          serviceCIDR: '10.2.0.0/16',
          clusterDomain: 'home',
          calico: {
            mode: 'bird',
            overlay: 'Never',
            vxlanPort: 1,
            vxlanVNI: 2,
            mtu: 3,
            wireguard: true,
            flexVolumeDriverPath: '/d',
            ipAutodetectionMethod: 'm',
            ipV6AutodetectionMethod: 'n',
            envVars: { A: 'b' },
          },
          dualStack: { enabled: true, IPv6podCIDR: 'fd00::/108', IPv6serviceCIDR: 'fd01::/108' },
          kubeProxy: {
            disabled: true,
            mode: 'ipvs',
            metricsBindAddress: '[::]:1',
            nodePortAddresses: ['10.0.0.0/8'],
            iptables: { syncPeriod: '1s' },
            ipvs: { scheduler: 'rr' },
          },
          nodeLocalLoadBalancing: {
            enabled: true,
            type: 'EnvoyProxy',
            envoyProxy: {
              image: { image: 'i', version: 'v' },
              imagePullPolicy: 'Never',
              apiServerBindPort: 7444,
              konnectivityServerBindPort: 7133,
            },
          },
          controlPlaneLoadBalancing: {
            enabled: true,
            type: 'Keepalived',
            keepalived: {
              vrrpInstances: [
                {
                  virtualIPs: ['10.0.0.9/24'],
                  interface: 'eth0',
                  virtualRouterID: 51,
                  advertIntervalSeconds: 1,
                  authPass: 'x',
                },
              ],
              virtualServers: [
                {
                  ipAddress: '10.0.0.9',
                  delayLoop: '1m',
                  lbAlgo: 'rr',
                  lbKind: 'DR',
                  persistenceTimeoutSeconds: 1,
                },
              ],
            },
          },
        },
        extensions: {
          storage: { type: 'openebs_local_storage', create_default_storage_class: true },
          helm: {
            concurrencyLevel: 2,
            repositories: [{ name: 'r', url: 'https://r', insecure: false, username: 'u', password: 'p' }],
            charts: [
              {
                name: 'c',
                chartname: 'r/c',
                values: 'a: 1',
                version: '1.0.0',
                namespace: 'n',
                timeout: '1m',
                order: 1,
              },
            ],
          },
        },
        konnectivity: { adminPort: 1, agentPort: 2 },
        controllerManager: { extraArgs: { a: 'b' } },
        scheduler: { extraArgs: { a: 'b' } },
        images: { default_pull_policy: 'Never' },
        telemetry: { enabled: true },
        workerProfiles: [{ name: 'w', values: { maxPods: 1 } }],
        featureGates: [{ name: 'G', enabled: true, components: ['kubelet'] }],
        installConfig: { users: { etcdUser: 'e', kubeSchedulerUser: 's' } },
      }
      const nix = `spec = builtins.fromJSON ''${JSON.stringify(written)}'';`
      const { spec: made } = configurationOf(`role = "controller"; clusterName = "c"; dataDir = "/d"; ${nix}`)
      expect(made).toMatchObject(written)
    })

    test('the option that was moved says where to', () => {
      expect(alone(`isLeader = true; ${spec}`).failedAssertions).toEqual([
        expect.stringContaining('Use services.k0s.controller.isLeader'),
      ])
    })

    test.each([
      ['configText = "";', 'Write it into services.k0s.spec'],
      ['manifest = "kind: Namespace";', 'manifests/CLUSTER/ of the fleet directory'],
    ])('an option that pins of another time have says what stands in its place: %s', (settings, message) => {
      expect(alone(`${settings} ${spec}`).failedAssertions).toEqual([expect.stringContaining(message)])
    })

    test.each(['enableConfigCheck', 'validateConfig'])(
      'the system is built only with what k0s itself takes, where %s says so',
      option => {
        expect(alone(spec).checks).toEqual([])
        const { checks } = alone(`${option} = true; ${spec}`)
        expect(checks).toEqual([
          expect.stringMatching(
            /\/nix\/store\/[a-z0-9]{32}-k0s\.yaml > checked\.yaml\n\/nix\/store\/\S+-k0s\/bin\/k0s config validate --config checked\.yaml\n/,
          ),
        ])
      },
    )

    test.each([
      ['role = "leader";', /role/],
      ['role = "controller";', /spec\.api\.address/],
      ['spec.api.address = "c.home";', /IP address/],
      ['spec.network.provider = "flannel"; spec.api.address = "10.0.0.1";', /provider/],
    ])('refuses %s', (settings, message) => {
      expect(() => alone(settings)).toThrow(message)
    })
  },
)
