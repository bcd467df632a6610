import { describe, expect, test } from 'vitest'
import { makePlan, type Plan } from '../../../agent/plan/make-plan.ts'
import { planMessage } from '../../../agent/plan/plan-message.ts'
import { PlanMachine } from '../../../agent/plan/testing/plan-machine.ts'
import { PlanMode } from '../../../shared/gen/muster/v1/plan_pb.ts'
import type { Described } from '../described.ts'
import { whyNoNixTests } from '../nix-library.ts'
import { configurationsOf, type Fleet, machineOf, unitsOf } from './cluster-fleet.ts'

const why = whyNoNixTests()

const RUNTIMES = ['containerd.service', 'crio.service', 'mine.service']
const TWO = `
[hosts.n1]
role = "server"
address = "10.0.0.11"
[hosts.w1]
role = "worker"
address = "10.0.0.21"
`

/** The plan of a machine that goes from one system to another, both as the modules render them. */
async function planBetween(before: Described, after: Described): Promise<Plan> {
  await using machine = await PlanMachine.make()
  const system = (described: Described) => ({
    ...Object.fromEntries(Object.entries(described.files).map(([name, text]) => [`etc/${name}`, text])),
    ...Object.fromEntries(
      [...unitsOf(described), ...RUNTIMES].map(name => [
        `etc/systemd/system/${name}`,
        described.units[name] ?? '',
      ]),
    ),
  })
  await machine.states('systemd-logind.service', 'containerd.service', 'crio.service', 'kubelet.service')
  await machine.runs(await machine.toplevel('a', system(before)))
  return await makePlan(machine.system, {
    root: '/',
    storeDir: '/nix/store',
    expected: { host: 'n1', system: 'x86_64-linux' },
    target: await machine.toplevel('b', system(after)),
  })
}

async function planOf(host: string, fleet: Fleet, settings: string): Promise<Plan> {
  const [before, after] = [fleet, { ...fleet, settings: `${fleet.settings ?? ''} ${settings}` }].map(one =>
    configurationsOf({ hosts: TWO, ...one }),
  )
  if (!before || !after) throw new Error('not made')
  return await planBetween(machineOf(before, host), machineOf(after, host))
}

const NETWORK =
  'muster.kubernetes.components.cni.config = { cniVersion = "1.0.0"; name = "pods"; plugins = [ { type = "bridge"; } ]; };'
const CRIO = 'muster.kubernetes.components.runtime.kind = "cri-o";'

describe.skipIf(why !== undefined)(`a container runtime that is another ${why ?? ''}`, () => {
  test.each<[string, Fleet, string, readonly string[], readonly string[]]>([
    [
      'the configuration of containerd',
      { distribution: 'components' },
      'virtualisation.containerd.settings.plugins."io.containerd.grpc.v1.cri".sandbox_image = "mine";',
      ['containerd.service'],
      ['/etc/containerd/config.toml'],
    ],
    [
      'the unit of containerd',
      { distribution: 'components' },
      'systemd.services.containerd.serviceConfig.LimitMEMLOCK = "infinity";',
      ['containerd.service'],
      [],
    ],
    [
      'the network of pods',
      { distribution: 'components' },
      NETWORK,
      ['containerd.service'],
      ['/etc/cni/net.d/10-muster.conflist'],
    ],
    [
      'the configuration of cri-o',
      { distribution: 'components', settings: CRIO },
      'virtualisation.cri-o.settings.crio.runtime.pids_limit = 4096;',
      ['crio.service'],
      ['/etc/crio/crio.conf.d/00-default.conf'],
    ],
    [
      'the registries of cri-o',
      { distribution: 'components', settings: CRIO },
      'environment.etc."containers/registries.conf".source = builtins.toFile "r" "x";',
      ['crio.service'],
      ['/etc/containers/registries.conf'],
    ],
    [
      'the network of services.kubernetes',
      { distribution: 'kubernetes' },
      'services.kubernetes.kubelet.cni.config = [ { type = "bridge"; } ];',
      ['containerd.service'],
      ['/etc/cni/net.d/11-bridge.conf'],
    ],
    [
      'a runtime of one’s own beside k3s, in what its owner names',
      {
        distribution: 'k3s',
        settings:
          'muster.kubernetes = { runtimeUnits = [ "mine.service" ]; runtimeFiles = [ "/etc/mine.conf" ]; }; systemd.services.mine.serviceConfig.ExecStart = "/mine";',
      },
      'environment.etc."mine.conf".source = builtins.toFile "m" "x";',
      ['mine.service'],
      ['/etc/mine.conf'],
    ],
  ])('restarts by the operation: %s', async (_, fleet, settings, units, files) => {
    const plan = await planOf('w1', fleet, settings)
    expect(plan.runtime).toMatchObject({ units, files })
    expect(plan.kubernetes).toBeUndefined()
    const message = planMessage(plan, PlanMode.SWITCH, [])
    expect(message).toMatchObject({ restarts: units, runtimeRestarts: true, kubernetesRestarts: false })
    expect(message.untouched).toEqual([])
  })

  test('stays where something else is another, and where no kubelet runs', async () => {
    const other = await planOf(
      'w1',
      { distribution: 'components' },
      'systemd.services.other.serviceConfig.ExecStart = "/x";',
    )
    expect(other.runtime).toBeUndefined()
    // What only the switch goes by: such as a configuration of before Muster had.
    const before =
      'systemd.services.containerd = { restartIfChanged = lib.mkForce true; unitConfig.X-StopOnRemoval = lib.mkForce true; };'
    expect((await planOf('w1', { distribution: 'components' }, before)).runtime).toBeUndefined()
    const server = await planOf('n1', { distribution: 'components' }, NETWORK)
    expect(server.runtime).toBeUndefined()
  })

  test('is left to the operation by every switch', () => {
    for (const [distribution, settings, unit] of [
      ['components', '', 'containerd.service'],
      ['components', CRIO, 'crio.service'],
      ['kubernetes', '', 'containerd.service'],
    ] as const) {
      const { units } = machineOf(configurationsOf({ hosts: TWO, distribution, settings }), 'w1')
      expect(units[unit]).toContain('X-RestartIfChanged=false')
      expect(units[unit]).toContain('X-StopOnRemoval=false')
    }
  })

  test.each<[string, Fleet, string, readonly string[]]>([
    [
      'k3s, whose template the unit tells of',
      { distribution: 'k3s' },
      'services.k3s.containerdConfigTemplate = "x";',
      [],
    ],
    [
      'k0s, by a file of its folder',
      { distribution: 'k0s' },
      'environment.etc."k0s/containerd.d/mine.toml".source = builtins.toFile "c" "x";',
      ['/etc/k0s/containerd.d/mine.toml'],
    ],
    [
      'k0s, by a network of one’s own',
      { distribution: 'k0s' },
      'environment.etc."cni/net.d/10-mine.conflist".source = builtins.toFile "n" "x";',
      ['/etc/cni/net.d/10-mine.conflist'],
    ],
  ])('is part of Kubernetes and restarts with it: %s', async (_, fleet, settings, files) => {
    const plan = await planOf('w1', fleet, settings)
    expect(plan.runtime).toBeUndefined()
    expect(plan.kubernetes?.files).toEqual(files)
  })

  test('of another kind is refused: its pods would run on beside those of the new one', async () => {
    const plan = await planOf('w1', { distribution: 'components' }, CRIO)
    expect(plan.kubernetes?.becomes).toBe(
      'container runtime: unix:///run/containerd/containerd.sock, then unix:///run/crio/crio.sock',
    )
  })
})
