import { describe, expect, test } from 'vitest'
import { whyNoNixTests } from '../nix-library.ts'
import {
  clusterFacts,
  commandOf,
  configurationsOf,
  DISTRIBUTIONS,
  type Distribution,
  HOSTS,
  machineOf,
  PROFILE,
  unitsOf,
} from './cluster-fleet.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`how Kubernetes' version is tied ${why ?? ''}`, () => {
  test.each(DISTRIBUTIONS)(
    '%s with a life apart: units name the profile, and no version changes them',
    distribution => {
      const units = (version: string, settings = '') =>
        configurationsOf({ distribution, cluster: `life = "apart"\nversion = "${version}"`, settings })
      const old = units('1.34.3')
      const packageOf: Record<Distribution, string> = {
        k3s: 'muster.kubernetes.package = e.nixpkgs.packages.k3s;',
        k0s: 'muster.kubernetes.package = e.nixpkgs.versioned "k0s" "1.35.4+k0s.0";',
        kubernetes: 'muster.kubernetes.package = e.nixpkgs.versioned "kubernetes" "1.35.4";',
        components: 'muster.kubernetes.package = e.nixpkgs.versioned "kubernetes" "1.35.4";',
      }
      const young = units('1.35.4', packageOf[distribution])
      for (const name of ['n1', 'n3', 'w1']) {
        expect(machineOf(young, name).failedAssertions).toEqual([])
        expect(machineOf(young, name).units).toEqual(machineOf(old, name).units)
        expect(machineOf(young, name).profile).not.toEqual(machineOf(old, name).profile)
      }
      const program = commandOf(machineOf(old, 'w1'), unitsOf(machineOf(old, 'w1'))[0] ?? '')
      expect(program).toMatch(
        /^(\/nix\/var\/nix\/profiles\/muster-kubernetes|\/nix\/store\/0+-kubernetes-of-the-profile)\/bin\//,
      )
      expect(clusterFacts(machineOf(old, 'n1'))).toMatchObject({
        profile: PROFILE,
        programs: [`${PROFILE}/bin`],
      })
    },
  )

  test('with the system: the package of the version, in the unit', () => {
    const { n1 } = configurationsOf({ distribution: 'k3s', cluster: 'version = "1.34.3"' })
    expect(commandOf(machineOf({ n1: n1! }, 'n1'), 'k3s.service')).toContain('k3s-1.34.3+k3s1/bin/k3s server')
    expect(n1?.profile).toBeNull()
    const { n1: alias } = configurationsOf({ distribution: 'k3s' })
    expect(commandOf(machineOf({ n1: alias! }, 'n1'), 'k3s.service')).toContain(
      'k3s-1.35.4+k3s1/bin/k3s server',
    )
  })

  test.each(['k3s', 'kubernetes', 'components'] as const)(
    '%s: a package of another version is refused',
    distribution => {
      const made = configurationsOf({ distribution, cluster: 'version = "1.33.9"' })
      expect(made.n1?.failedAssertions).toEqual([
        expect.stringMatching(/asks for version 1\.33\.9 in \[clusters\.c\], but .* is /),
      ])
    },
  )

  test.each(['k3s', 'k0s', 'kubernetes', 'components'] as const)(
    '%s with a life apart: a package of another version is refused, too',
    distribution => {
      const name = distribution === 'components' ? 'kubernetes' : distribution
      const { n1, w1 } = configurationsOf({
        distribution,
        cluster: 'life = "apart"\nversion = "1.34.3"',
        settings: `muster.kubernetes.package = e.nixpkgs.versioned "${name}" "1.33.9";`,
      })
      for (const machine of [n1, w1])
        expect(machine?.failedAssertions).toEqual([
          expect.stringMatching(/asks for version 1\.34\.3 in \[clusters\.c\], but .* is .*-1\.33\.9/),
        ])
    },
  )

  test('kubernetes with a life apart: the image of pods’ `pause` is that of the system', () => {
    const { n1, w1 } = configurationsOf({
      distribution: 'kubernetes',
      cluster: 'life = "apart"\nversion = "1.35.4"',
      // nixpkgs' module makes that image of its package, whatever it is.
      settings: `muster.kubernetes.package = e.nixpkgs.versioned "kubernetes" "1.35.4";
        imports = [ ({ config, ... }: { environment.etc."images".text =
          e.lib.concatMapStringsSep " " (one: one.name) config.services.kubernetes.kubelet.seedDockerImages; }) ];`,
    })
    for (const machine of [n1, w1]) {
      expect(machine?.failedAssertions).toEqual([])
      expect(machine?.files.images).toBe('kubernetes-pause-1.34.3')
    }
  })

  test('components with a life apart: a part has no package of its own, since the profile holds one program of a name', () => {
    const of = (cluster: string) =>
      configurationsOf({
        distribution: 'components',
        cluster,
        settings:
          'muster.kubernetes.components.kubelet.package = e.nixpkgs.package "kubernetes-patched" // { version = "1.34.3"; };',
      })
    const apart = of('life = "apart"\nversion = "1.34.3"')
    expect(apart.w1?.failedAssertions).toEqual([expect.stringContaining('(kubernetes-patched)')])
    // No kubelet runs there.
    expect(apart.n1?.failedAssertions).toEqual([])
    const together = of('version = "1.34.3"')
    expect(together.w1?.failedAssertions).toEqual([])
    expect(commandOf(machineOf(together, 'w1'), 'kubelet.service')).toContain(
      'kubernetes-patched/bin/kubelet',
    )
  })

  test('k0s says where its package is to be had', () => {
    expect(() =>
      configurationsOf({ distribution: 'k0s', settings: 'muster.kubernetes.package = null;' }),
    ).toThrow(/github:nix-community\/k0s-nix/)
  })

  test('where the system is somebody else’s, the profile brings units and files along', () => {
    const hosts = `${HOSTS}[hosts.x1]\nrole = "worker"\naddress = "10.0.0.40"\nos = "external"\n`
    const made = configurationsOf({
      distribution: 'components',
      hosts,
      cluster: 'life = "apart"',
      settings:
        'systemd.units = lib.genAttrs [ "kubelet.service" "kube-proxy.service" "muster-cluster-secrets.service" "muster-kubernetes.service" ] (name: { unit = e.nixpkgs.package name; });',
    })
    expect(made.x1?.profile?.holds).toEqual(
      expect.arrayContaining([
        'kubernetes-1.34.3',
        'etc/systemd/system/kubelet.service',
        'etc/systemd/system/muster-cluster-secrets.service',
        'etc/systemd/system/muster-kubernetes.service',
        'etc/muster/kubernetes/kubelet.json',
        'etc/muster/cluster.json',
      ]),
    )
    const files = (distribution: Distribution, settings: string) =>
      configurationsOf({ distribution, hosts, cluster: 'life = "apart"', settings }).x1?.profile?.holds
    const units = (names: string) =>
      `systemd.units = lib.genAttrs [ ${names} "muster-cluster-secrets.service" "muster-kubernetes.service" ] (name: { unit = e.nixpkgs.package name; });`
    // What units read by a name that stays is of no use in the system of a machine that has none of ours.
    expect(files('kubernetes', units('"kubelet.service" "kube-proxy.service" "flannel.service"'))).toContain(
      'etc/kube-flannel/net-conf.json',
    )
    expect(
      files(
        'k3s',
        `${units('"k3s.service"')} environment.etc."rancher/k3s/config.yaml".source = builtins.toFile "c" "";`,
      ),
    ).toContain('etc/rancher/k3s/config.yaml')
    const own = 'muster.kubernetes.files = [ "/etc/kubernetes/audit.yaml" ];'
    expect(
      files(
        'components',
        `${units('"kubelet.service" "kube-proxy.service"')} ${own} environment.etc."kubernetes/audit.yaml".source = builtins.toFile "a" "";`,
      ),
    ).toContain('etc/kubernetes/audit.yaml')
    expect(made.w1?.profile?.holds).toEqual(['kubernetes-1.34.3', 'kubectl'])
    expect(Object.keys(configurationsOf({ distribution: 'components', hosts }))).not.toContain('x1')
  })
})
