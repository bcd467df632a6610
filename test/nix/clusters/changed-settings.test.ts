import { describe, expect, test } from 'vitest'
import type { KubernetesChange } from '../../../agent/plan/kubernetes-change.ts'
import { makePlan } from '../../../agent/plan/make-plan.ts'
import { PlanMachine } from '../../../agent/plan/testing/plan-machine.ts'
import type { Described } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import { configurationsOf, type Fleet, machineOf, unitsOf } from './cluster-fleet.ts'

const why = whyNoNixTests()

/** What the agent of a machine says that one system makes of the Kubernetes of another. */
async function changeBetween(before: Described, after: Described): Promise<KubernetesChange | undefined> {
  await using machine = await PlanMachine.make()
  const system = ({ files, units, ...described }: Described) => ({
    ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`etc/${name}`, text])),
    ...Object.fromEntries(
      unitsOf({ files, units, ...described }).map(name => [`etc/systemd/system/${name}`, units[name] ?? '']),
    ),
  })
  await machine.runs(await machine.toplevel('a', system(before)))
  const plan = await makePlan(machine.system, {
    root: '/',
    storeDir: '/nix/store',
    expected: { host: 'n1', system: 'x86_64-linux' },
    target: await machine.toplevel('b', system(after)),
  })
  return plan.kubernetes
}

/** The files of the Kubernetes of a host that other settings change; undefined: it stays as it is. */
async function changedBy(
  host: string,
  fleet: Fleet,
  settings: string,
): Promise<readonly string[] | undefined> {
  const [before, after] = [fleet, { ...fleet, settings: `${fleet.settings ?? ''} ${settings}` }].map(one =>
    configurationsOf({ hosts: TWO, ...one }),
  )
  if (!before || !after) throw new Error('not made')
  return (await changeBetween(machineOf(before, host), machineOf(after, host)))?.files
}

const TWO = `
[hosts.n1]
role = "server"
address = "10.0.0.11"
[hosts.w1]
role = "worker"
address = "10.0.0.21"
`
const STATIC = 'muster.kubernetes.components.staticPods = { enable = true; repository = "images.home/k8s"; };'
const SPEC = 'services.k0s.spec.featureGates = [ { name = "A"; enabled = true; } ];'
const APART = 'life = "apart"\nversion = "1.34.3"'
const FOUND = `${APART}\nnode-interface = "tailscale0"`
const KUBELET = '/etc/muster/kubernetes/kubelet.json'

describe.skipIf(why !== undefined)(`settings that no unit tells ${why ?? ''}`, () => {
  test.each<[string, string, Fleet, string, readonly string[] | undefined]>([
    ['spec of k0s', 'n1', { distribution: 'k0s', cluster: APART }, SPEC, ['/etc/k0s/k0s.yaml']],
    [
      'spec of k0s, with an address that is found out',
      'n1',
      { distribution: 'k0s', cluster: FOUND },
      SPEC,
      ['/etc/k0s/unfilled.yaml'],
    ],
    [
      'spec of k0s, which workers do not read',
      'w1',
      { distribution: 'k0s', cluster: APART },
      SPEC,
      undefined,
    ],
    [
      'the containerd of k0s',
      'w1',
      { distribution: 'k0s' },
      'environment.etc."k0s/containerd.toml".source = builtins.toFile "c" "x";',
      ['/etc/k0s/containerd.toml'],
    ],
    [
      'the registries of k3s',
      'w1',
      { distribution: 'k3s' },
      'environment.etc."rancher/k3s/registries.yaml".source = builtins.toFile "r" "x";',
      ['/etc/rancher/k3s/registries.yaml'],
    ],
    [
      'the network of flannel',
      'w1',
      { distribution: 'kubernetes' },
      'environment.etc."kube-flannel/net-conf.json".source = builtins.toFile "f" "{}";',
      ['/etc/kube-flannel/net-conf.json'],
    ],
    [
      'settings of the kubelet',
      'w1',
      { distribution: 'components' },
      'muster.kubernetes.components.kubelet.settings.maxPods = 200;',
      [KUBELET],
    ],
    [
      'settings of kube-proxy',
      'w1',
      { distribution: 'components' },
      'muster.kubernetes.components.proxy.settings.mode = "ipvs";',
      ['/etc/muster/kubernetes/kube-proxy.json'],
    ],
    [
      'flags of a static pod',
      'n1',
      { distribution: 'components', cluster: APART, settings: STATIC },
      'muster.kubernetes.components.scheduler.flags.v = 4;',
      ['/etc/muster/kubernetes/manifests/kube-scheduler.json'],
    ],
    [
      'a file that a person names',
      'n1',
      {
        distribution: 'components',
        settings: 'muster.kubernetes.files = [ "/etc/audit.yaml" ];',
      },
      'environment.etc."audit.yaml".source = builtins.toFile "a" "x";',
      ['/etc/audit.yaml'],
    ],
    [
      'a file that is not named',
      'n1',
      { distribution: 'components' },
      'environment.etc."other.yaml".source = builtins.toFile "a" "x";',
      undefined,
    ],
  ])('%s: %s', async (_, host, fleet, settings, files) => {
    expect(await changedBy(host, fleet, settings)).toEqual(files)
  })

  test('nothing is told twice: a change of a unit names no file', async () => {
    const flags = 'muster.kubernetes.components.kubelet.flags.v = 4;'
    expect(await changedBy('w1', { distribution: 'components' }, flags)).toEqual([])
  })
})
