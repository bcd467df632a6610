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

    test('the option that was moved says where to', () => {
      expect(alone(`isLeader = true; ${spec}`).failedAssertions).toEqual([
        expect.stringContaining('Use services.k0s.controller.isLeader'),
      ])
    })

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
