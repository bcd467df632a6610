import { describe, expect, test } from 'vitest'
import { unitSection } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import {
  clusterFacts,
  commandOf,
  configurationsOf,
  DISTRIBUTIONS,
  type Distribution,
  HOLD,
  HOSTS,
  ownConfigurationOf,
  RUN,
  service,
  unitsOf,
} from './cluster-fleet.ts'

const why = whyNoNixTests()

/** The hosts of a cluster that ran before Muster, each with a configuration of its operator's own. */
const OWN = HOSTS.replace(
  /\[hosts\.(\w+)\]/g,
  (section, name: string) => `${section}\nconfig = "nixosConfigurations.${name}"`,
)
const EXISTING = 'muster.kubernetes.existing = true;'

const K0S = 'package = e.nixpkgs.versioned "k0s" "1.34.3+k0s.0"; spec.api.address = "10.0.0.11";'
/** What whoever made the cluster wrote on a server and on a worker. */
const MADE: Readonly<Record<Distribution, { readonly n1: string; readonly w1: string }>> = {
  k3s: {
    n1: 'services.k3s = { enable = true; package = e.nixpkgs.packages.k3s_1_34; clusterInit = true; tokenFile = "/root/token"; extraFlags = [ "--flannel-backend=host-gw" ]; };',
    w1: 'services.k3s = { enable = true; package = e.nixpkgs.packages.k3s_1_34; role = "agent"; serverAddr = "https://10.0.0.11:6443"; tokenFile = "/root/token"; };',
  },
  k0s: {
    n1: `services.k0s = { enable = true; role = "controller"; controller.isLeader = true; ${K0S} };`,
    w1: `services.k0s = { enable = true; role = "worker"; ${K0S} };`,
  },
  kubernetes: {
    n1: `services.kubernetes = { roles = [ "master" ]; package = e.nixpkgs.versioned "kubernetes" "1.34.3"; masterAddress = "n1"; easyCerts = false; apiserver = { serviceAccountKeyFile = "/x"; serviceAccountSigningKeyFile = "/x"; etcd.servers = [ "https://127.0.0.1:2379" ]; }; };`,
    w1: 'services.kubernetes = { roles = [ "node" ]; package = e.nixpkgs.versioned "kubernetes" "1.34.3"; masterAddress = "n1"; easyCerts = false; };',
  },
  components: {
    n1: 'systemd.services.etcd = { wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "/bin/etcd"; }; muster.kubernetes.units = [ "etcd.service" ];',
    w1: 'systemd.services.node = { wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "/bin/kubelet"; }; muster.kubernetes.units = [ "node.service" ];',
  },
}

describe.skipIf(why !== undefined)(`a host with a configuration of its own ${why ?? ''}`, () => {
  test.each(DISTRIBUTIONS)(
    '%s: has from fleet.toml what a made one has, with nothing typed twice',
    distribution => {
      const cluster = 'version = "1.34.3"\nendpoint = "10.0.0.9"\npod-cidr = "10.50.0.0/16"'
      const settings =
        distribution === 'k0s' ? 'muster.kubernetes.package = e.nixpkgs.versioned "k0s" "1.34.3+k0s.0";' : ''
      const made = configurationsOf({ distribution, cluster, settings })
      for (const host of ['n1', 'w1']) {
        const own = ownConfigurationOf(host, { distribution, cluster, hosts: OWN, settings })
        expect(own.failedAssertions).toEqual([])
        expect(clusterFacts(own)).toEqual(clusterFacts(made[host]!))
        for (const unit of unitsOf(own)) expect(own.units[unit]).toBe(made[host]?.units[unit])
        expect(own.settings['muster/agent.json']).toEqual(made[host]?.settings['muster/agent.json'])
      }
    },
  )

  test('keeps its name, network, users and platform', () => {
    const settings = 'networking.hostName = "legacy";'
    const own = ownConfigurationOf('n1', { distribution: 'k3s', hosts: OWN, settings })
    expect(own.networking).toMatchObject({ hostName: 'legacy', useNetworkd: false, useDHCP: true })
    expect(own.networks).toEqual({})
    expect(own.users).toEqual({})
    expect(own.muster).toMatchObject({ host: 'n1', role: 'server', cluster: 'c' })
  })

  test('is one that the file knows, and says so', () => {
    const of = (host: string, hosts: string) => () => ownConfigurationOf(host, { distribution: 'k3s', hosts })
    expect(of('n9', OWN)).toThrow(
      /fleet\.toml has no host n9; write \[hosts\.n9\], or one of: n1, n2, n3, w1/,
    )
    expect(of('n1', HOSTS)).toThrow(/the configuration of n1 is made by mkFleet/)
  })
})

describe.skipIf(why !== undefined)(`a cluster that ran before Muster ${why ?? ''}`, () => {
  test.each(DISTRIBUTIONS)(
    '%s: its units stay as they were, and start at a boot without the agent',
    distribution => {
      for (const host of ['n1', 'w1'] as const) {
        const before = MADE[distribution][host]
        const own = ownConfigurationOf(host, { distribution, hosts: OWN, settings: `${EXISTING} ${before}` })
        expect(own.failedAssertions).toEqual([])
        expect(own.units).not.toHaveProperty('muster-kubernetes.service')
        const alone = ownConfigurationOf(host, {
          distribution,
          hosts: OWN,
          settings: `muster.kubernetes.enable = false; ${before}`,
        })
        const units = unitsOf(own)
        expect(units.length).toBeGreaterThan(0)
        for (const name of units) {
          // All that runs it, but for what its condition and the guard add.
          expect(commandOf(own, name)).toBe(commandOf(alone, name))
          expect(service(own, name).get('EnvironmentFile')).toEqual(
            service(alone, name).get('EnvironmentFile'),
          )
          const install = (text: string | undefined) => unitSection(text, 'Install').get('WantedBy')
          expect(install(own.units[name])).toEqual(install(alone.units[name]))
          const conditions = unitSection(own.units[name], 'Unit').get('ConditionPathExists') ?? []
          const conditionsAlone = unitSection(alone.units[name], 'Unit').get('ConditionPathExists') ?? []
          expect(conditions.toSorted()).toEqual([...conditionsAlone, `!${HOLD}`].toSorted())
          // A switch restarts nothing.
          expect(service(own, name).get('X-RestartIfChanged')).toEqual(['false'])
          expect(own.units[name]).not.toContain(RUN)
        }
        expect(own.networking.firewall.allowedTCPPorts).toEqual([])
        // The agent knows it all the same, and what it sealed when it adopted is opened at a boot.
        expect(clusterFacts(own)).toMatchObject({ cluster: 'c', distribution, nodeName: host, units })
        expect(own.units).toHaveProperty('muster-cluster-secrets.service')
      }
    },
  )

  test.each([
    ['k3s', 'k3s.service', '/var/lib/rancher/k3s/server/db/etcd/member'],
    ['k0s', 'k0s.service', '/var/lib/k0s/etcd/member'],
    ['kubernetes', 'etcd.service', '/var/lib/etcd/member'],
    ['components', 'etcd.service', '/var/lib/etcd/member'],
  ] as const)(
    'K7: %s: a server without its datastore founds no other one, though its configuration says so',
    (distribution, unit, data) => {
      const settings = `${EXISTING} ${MADE[distribution].n1}`
      const own = ownConfigurationOf('n1', { distribution, hosts: OWN, settings })
      expect(service(own, unit).get('ExecStartPre')).toEqual([
        expect.stringMatching(
          new RegExp(`datastore-guard\\.sh /var/lib/muster-agent/cluster/member ${data}$`),
        ),
      ])
    },
  )

  test('components: the data is where its etcd keeps it, which may run as another user', () => {
    const settings = `${EXISTING} ${MADE.components.n1} muster.kubernetes.components.etcd.dataDir = "/srv/etcd";`
    const own = ownConfigurationOf('n1', { distribution: 'components', hosts: OWN, settings })
    expect(service(own, 'etcd.service').get('ExecStartPre')).toEqual([
      expect.stringMatching(
        /^\+\S+\/bash \S+ \/var\/lib\/muster-agent\/cluster\/member \/srv\/etcd\/member$/,
      ),
    ])
    expect(clusterFacts(own)).toMatchObject({ etcdDataDir: '/srv/etcd' })
  })

  test('is told of what cannot be adopted: another version, data elsewhere, a life apart, no etcd of its own', () => {
    const refused = (distribution: Distribution, more: string, cluster = '') =>
      ownConfigurationOf('n1', {
        distribution,
        cluster,
        hosts: OWN,
        settings: `imports = [ { ${EXISTING} ${MADE[distribution].n1} } { ${more} } ];`,
      }).failedAssertions
    expect(refused('k3s', '', 'version = "1.33.8"')).toEqual([
      expect.stringContaining('services.k3s.package is k3s-1.34.3'),
    ])
    expect(refused('k3s', 'services.k3s.extraFlags = [ "--data-dir=/srv" ];')).toEqual([
      expect.stringContaining('--data-dir'),
    ])
    expect(refused('k0s', 'services.k0s.dataDir = "/srv/k0s";')).toEqual([
      expect.stringContaining('services.k0s.dataDir'),
    ])
    expect(refused('components', 'muster.kubernetes.units = lib.mkForce [ "etcd-main.service" ];')).toEqual([
      expect.stringContaining('no etcd.service is among muster.kubernetes.units'),
    ])
    expect(refused('k3s', '', 'life = "apart"')).toEqual([
      expect.stringContaining('until the cluster is adopted'),
    ])
  })

  test('finds its address out by itself, where no unit asks for it and no boot waits for it', () => {
    const hosts = OWN.replace('address = "10.0.0.11"', '')
    const own = ownConfigurationOf('n1', {
      distribution: 'k3s',
      hosts,
      settings: `${EXISTING} ${MADE.k3s.n1}`,
    })
    const unit = own.units['muster-node-address.service']
    expect(unitSection(unit, 'Install').get('WantedBy')).toEqual(['multi-user.target'])
    expect(unitSection(unit, 'Service').get('Type')).toEqual(['exec'])
    expect(unitSection(unit, 'Service').get('RemainAfterExit')).toEqual(['true'])
    expect(own.units['k3s.service']).not.toContain('muster-node-address')
  })
})
