import type { Machine } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { LocalCoordinator } from '../start/local-coordinator.ts'
import { until } from '../start/until.ts'
import type { Builder } from './builder.ts'
import type { DemoAgent } from './demo-agent.ts'
import { DemoError } from './demo-error.ts'
import type { Walk } from './walk.ts'

/** What all steps of the demo work on. */
export interface DemoContext {
  readonly walk: Walk
  readonly coordinator: LocalCoordinator
  readonly builder: Builder
  /** The demo's folder; everything is below it. */
  readonly folder: string
  /** The coordinator's state. */
  readonly state: string
  /** Of the operator, made by `muster init`. */
  readonly fleet: string
  readonly top: string
  readonly address: string
  readonly signal: AbortSignal
  /** By name; filled as they start. */
  readonly agents: Map<string, DemoAgent>
  /** The folder with the systems that the machines run before the first revision. */
  readonly installed: string
}

/** The agent of the machine that the demo runs on. */
export const HERE = 'here'

export async function machinesOf({ coordinator }: DemoContext): Promise<readonly Machine[]> {
  return (await coordinator.api.listMachines({ where: '' })).machines
}

export function agentOf({ agents }: DemoContext, name: string): DemoAgent {
  const agent = agents.get(name)
  if (!agent) throw new DemoError(`${name}: was not started`)
  return agent
}

/** Waits until a machine of the demo is shown so. */
export async function untilMachine(
  context: DemoContext,
  name: string,
  what: string,
  accept: (machine: Machine) => boolean,
): Promise<Machine> {
  const agent = agentOf(context, name)
  return await until(`${name} is ${what}`, context.signal, async () => {
    if (agent.child && !agent.child.running) {
      throw new DemoError(
        `the agent of ${name} ${await agent.child.ended}: ${agent.child.lastLines.join('\n')}`,
      )
    }
    const id = await agent.id()
    return (await machinesOf(context)).find(machine => machine.id === id && accept(machine))
  })
}
