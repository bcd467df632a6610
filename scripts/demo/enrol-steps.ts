import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { writeMadeUpRoot } from '../made-up-root.ts'
import { buildAll, buildSimulated } from './builder.ts'
import { agentOf, type DemoContext, HERE, machinesOf, untilMachine } from './context.ts'
import { DemoAgent } from './demo-agent.ts'
import { MACHINES } from './machines.ts'
import type { Step } from './walk.ts'

const isActive = ({ state, online }: Machine) => state === MachineState.ACTIVE && online
const isPending = ({ state }: Machine) => state === MachineState.PENDING

/** From nothing to six machines of which one waits no longer. */
export function enrolSteps(context: DemoContext): readonly Step[] {
  const { walk, coordinator } = context
  return [
    {
      title: 'A coordinator starts, with a certificate authority of its own',
      async run() {
        const { caPin } = await coordinator.start(context.signal)
        await walk.muster(['status'])
        walk.check(/^[0-9a-f]{64}$/.test(caPin), 'it has an authority, known by its pin', caPin)
        walk.check((await machinesOf(context)).length === 0, 'it knows no machine yet')
      },
    },
    {
      title: 'The operator makes a fleet and the keys that sign for it',
      async run() {
        await walk.muster(['init', 'fleet', '--name', 'demo'], {
          show: text => text.split('\nNext:')[0] ?? '',
        })
        await walk.muster(['trust', 'set'])
        const { trustPin, fleetId } = await coordinator.api.getFleet({})
        walk.check(
          trustPin !== '' && fleetId !== '',
          'the coordinator knows whose signature counts; the key itself it never sees',
        )
      },
    },
    {
      title: 'Six machines enrol: three with a token, three wait for an operator',
      run: () => enrolAll(context),
    },
    {
      title: 'Their hardware is seen before anything is decided',
      async run() {
        const big = 'facts.disks.exists(d, d.size > 1000000000000)'
        const ofServers = `${big} && facts.system.product == 'MM-500 server'`
        await walk.muster(['machines', '--where', ofServers, '-o', 'wide'])
        const { machines } = await coordinator.api.listMachines({ where: ofServers })
        const id = await agentOf(context, 'bolt').id()
        walk.check(
          machines.length === 1 && machines[0]?.id === id,
          'of the servers only bolt (simulated) has a disk of more than a terabyte',
        )
        await walk.muster(['show', (id ?? '').slice(0, 12), '--facts'], { show: factsOfDisks })
      },
    },
    {
      title: 'The operator approves one machine that waits',
      async run() {
        const anna = await untilMachine(context, 'anna', 'pending', isPending)
        await walk.muster(['pending'])
        await walk.muster(['approve', anna.id.slice(0, 12)])
        await untilMachine(context, 'anna', 'active', isActive)
        const waiting = (await machinesOf(context)).filter(isPending)
        walk.check(
          waiting.length === 2,
          'it is in and was seen over mutual TLS; two still wait',
          `${waiting.length} wait`,
        )
      },
    },
  ]
}

async function enrolAll(context: DemoContext): Promise<void> {
  const { walk, coordinator, folder } = context
  const { caPin, trustPin } = await coordinator.api.getFleet({})
  const token = await createToken(context, 3)
  walk.say(
    `Five are made up: simulated hardware, read from folders. All six share one machine, ${hostname()}.`,
  )
  const own = { top: context.top, coordinator: context.address, caPin, trustPin, builder: context.builder }
  const here = new DemoAgent({ ...own, folder: join(folder, 'a', HERE), token, madeUp: false })
  context.agents.set(HERE, here)
  await here.start()
  const systems = await installedSystems(context)
  await Promise.all(
    MACHINES.map(async (machine, index) => {
      const place = join(folder, 'a', machine.name)
      const agent = new DemoAgent({
        ...own,
        folder: place,
        token: machine.token ? token : undefined,
        madeUp: true,
      })
      context.agents.set(machine.name, agent)
      await writeMadeUpRoot(agent.root, machine.hardware)
      await agent.install(
        systems[index] ?? (await simulatedSystem(context, agent, machine.system)),
        context.signal,
      )
      await agent.start()
    }),
  )
  for (const name of [HERE, 'olaf', 'bolt']) await untilMachine(context, name, 'active', isActive)
  for (const { name, token: admitted } of MACHINES)
    if (!admitted) await untilMachine(context, name, 'pending', isPending)
  for (const { name } of MACHINES) walk.markSimulated((await agentOf(context, name).id()) ?? '')
  await walk.muster(['machines'])
  const machines = await machinesOf(context)
  const seen = machines.map(({ state }) => state).join(' ')
  walk.check(machines.filter(isActive).length === 3, 'three had a token, and were let in at once', seen)
  walk.check(machines.filter(isPending).length === 3, 'three have none, and wait', seen)
  walk.check(
    machines.filter(({ simulated }) => simulated).length === 5,
    'five say of themselves that they are simulated',
  )
}

async function createToken({ walk, folder }: DemoContext, uses: number): Promise<string> {
  await walk.muster(['token', 'create', '--ttl', '15m', '--uses', String(uses), '--out', 'token'])
  return (await readFile(join(folder, 'token'), 'utf8')).trim()
}

/** With Nix the systems that run before the first revision are built all at once. */
async function installedSystems({ builder, installed, signal }: DemoContext): Promise<readonly string[]> {
  if (builder.kind === 'simulated') return []
  return await buildAll(
    installed,
    MACHINES.map(({ system }) => system),
    builder.env,
    signal,
  )
}

async function simulatedSystem(
  { builder, installed, signal }: DemoContext,
  agent: DemoAgent,
  system: string,
): Promise<string> {
  return await buildSimulated(builder, installed, system, agent.root, agent.store, signal)
}

function factsOfDisks(text: string): string {
  const lines = text.split('\n').filter(line => /disks/.test(line))
  return lines.map(line => `${line}   (simulated)`).join('\n')
}
