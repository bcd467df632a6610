import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { agentOf, type DemoContext, HERE, machinesOf, untilMachine } from './context.ts'
import { DemoError } from './demo-error.ts'
import { readFleetFile, writeGeneration, writeHosts, writeStandInFlake } from './fleet-files.ts'
import { MACHINES } from './machines.ts'
import { outcomesOnly, type Step } from './walk.ts'

/** From the fleet file to machines that run what it says, twice. */
export function revisionSteps(context: DemoContext): readonly Step[] {
  const { walk, fleet } = context
  let initial = ''
  return [
    {
      title: 'The fleet file is checked, signed and published as revision 1',
      async run() {
        initial = await readFleetFile(fleet)
        walk.say(
          'The flake is replaced by one of stand-ins for NixOS systems: nixpkgs is not downloaded for a demo.',
        )
        await writeStandInFlake(context.top, fleet, 1)
        await writeFile(join(fleet, 'fleet.toml'), `${initial}\n[hosts.olaf]\nserail = "MM5000001"\n`)
        const { both } = await walk.muster(['check', 'fleet'], { exit: 1 })
        const place = /fleet\.toml:\d+:\d+: error: hosts\.olaf\.serail/.test(both)
        walk.check(place, 'a slip of the pen is named with its line and column')
        await writeHosts(fleet, initial, { here: await idOf(context, HERE), rack: 'a' })
        await walk.muster(['check', 'fleet'])
        await walk.muster(['publish', 'fleet'])
        const { revision } = await context.coordinator.api.getFleet({})
        walk.check(revision === 1n, 'revision 1 is published', String(revision))
      },
    },
    {
      title: 'Two boxes that nobody listed become hosts by the rule in the signed revision',
      async run() {
        const boxes = MACHINES.filter(({ system }) => system === 'edge')
        for (const { name } of boxes) {
          await untilMachine(context, name, 'a host of the group edge', ({ state, group, online }) => {
            return state === MachineState.ACTIVE && group === 'edge' && online
          })
        }
        await walk.muster(['machines', '--where', "status.group == 'edge'"])
        for (const name of ['olaf', 'bolt', 'anna', HERE])
          await untilMachine(context, name, `host ${name}`, ({ host }) => host === name)
        const hosts = (await machinesOf(context)).map(({ host }) => host).sort()
        walk.check(
          new Set(hosts).size === 6 && !hosts.includes(''),
          'all six machines are hosts, each bound in its own way',
          hosts.join(' '),
        )
      },
    },
    { title: 'Apply: every node verifies, builds and switches by itself', run: () => applyFirst(context) },
    {
      title: 'Status: who runs what',
      async run() {
        for (const { name } of MACHINES) await untilMachine(context, name, 'at revision 1', at(1n))
        await walk.muster(['status'])
        for (const { name } of MACHINES) {
          const { system, generation } = await agentOf(context, name).running()
          if (!/\.1$/.test(system) || generation !== 'system-2-link') {
            throw new DemoError(`${name}: runs ${system} as ${generation}`)
          }
        }
        const { both } = await walk.muster([
          ...['query', 'machine.simulated', '--live'],
          ...['--select', 'facts.nixos.generation', '--select', 'facts.nixos.current'],
        ])
        const told = both.split('\n').filter(line => /\b2\b.*(standin|simulated)\.1\b/.test(line))
        walk.check(
          told.length === 5,
          'the five simulated machines say so themselves: the system of revision 1, as generation 2',
          both,
        )
      },
    },
    {
      title: 'A change: look at it, publish it as revision 2, apply it to one host, read its log',
      async run() {
        await writeHosts(fleet, initial, { here: await idOf(context, HERE), rack: 'b' })
        await writeGeneration(fleet, 2)
        await walk.muster(['diff', 'fleet'])
        await walk.muster(['publish', 'fleet'])
        await walk.muster(['apply', 'olaf'], { show: outcomesOnly })
        await untilMachine(context, 'olaf', 'at revision 2', at(2n))
        await walk.muster(['logs', 'olaf', '--tail', '12'])
        const [olaf, bolt] = [
          await agentOf(context, 'olaf').running(),
          await agentOf(context, 'bolt').running(),
        ]
        walk.check(
          /\.2$/.test(olaf.system) && olaf.generation === 'system-3-link',
          'olaf (simulated) runs revision 2, as generation 3',
          olaf.system,
        )
        walk.check(/\.1$/.test(bolt.system), 'nobody else moved', bolt.system)
      },
    },
  ]
}

const at =
  (revision: bigint) =>
  ({ appliedRevision, lastOperation }: Machine): boolean =>
    appliedRevision === revision && lastOperation?.outcome?.class === OutcomeClass.SUCCEEDED

async function applyFirst(context: DemoContext): Promise<void> {
  const { walk, builder } = context
  walk.say(
    builder.kind === 'nix'
      ? `The builds are real: ${builder.version}. The switch is simulated by stand-ins, each in a folder of its own.`
      : `Builds and switches are simulated, each in a folder of its own: ${builder.why}.`,
  )
  await walk.muster(['apply', '--where', 'machine.simulated'], { show: outcomesOnly })
  walk.say(
    'The coordinator runs on this machine, so it is ordered alone, after a backup. It refuses the switch (4), or',
  )
  walk.say('cannot build here (6).')
  await walk.muster(['apply', HERE], { exit: [4, 6], show: outcomesOnly })
  const machines = await machinesOf(context)
  const good = machines.filter(
    ({ lastOperation }) => lastOperation?.outcome?.class === OutcomeClass.SUCCEEDED,
  )
  walk.check(
    good.length === 5 && good.every(({ simulated }) => simulated),
    'the five simulated machines switched',
    String(good.length),
  )
  walk.check(
    good.every(({ lastOperation }) => (lastOperation?.outcome?.simulated.length ?? 0) > 0),
    'each outcome names what was simulated',
  )
  const here = machines.find(({ host }) => host === HERE)?.lastOperation?.outcome
  const wanted = builder.kind === 'nix' ? 'not-allowed' : 'tool-missing'
  // Without a way to build as this user it does not come so far as to refuse the switch.
  const stopped = here?.refusal === wanted || here?.class === OutcomeClass.BUILD_FAILED
  walk.check(
    stopped,
    `this very machine stopped before the switch and is untouched: ${here?.reason ?? 'no outcome'}`,
    here?.refusal,
  )
}

async function idOf(context: DemoContext, name: string): Promise<string> {
  const id = await agentOf(context, name).id()
  if (id === undefined) throw new DemoError(`${name}: has no key yet`)
  return id
}
