import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Machine, MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
import type { Outcome } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type AgentProgram, buildAgentProgram } from '../agent-program.ts'
import { type Lab, startLab } from '../lab.ts'
import { type Centre, PORTS, startCentre } from '../lab-fleet.ts'
import { COORDINATOR_ADDRESS } from '../network.ts'
import { buildSystems, type SystemOptions, writeSystemsFlake } from '../systems.ts'
import { VirtualMachine, type VirtualMachineOptions, virtualAddress } from './virtual-machine.ts'
import { virtualSystem } from './virtual-system.ts'

/** Emulated processors evaluate, build and start a Node slowly, and more so on a busy host. */
export const SLOW_MS = 20 * 60_000
const slowly = { timeoutMs: SLOW_MS, everyMs: 1_000 }

export interface VirtualFleetOptions extends Omit<VirtualMachineOptions, 'systems'> {
  readonly diskSerial: string
  /** Systems of older generations than the one that is installed; each is laid over the first system. */
  readonly older?: readonly SystemOptions[]
  /** Laid over the first system, and over every later one that says nothing else. */
  readonly system?: SystemOptions
}

/** A coordinator, and one virtual machine with the agent in it, which is the host `olaf` once it was let in. */
export class VirtualFleet implements AsyncDisposable {
  readonly lab: Lab
  readonly centre: Centre
  readonly agent: AgentProgram
  readonly #options: VirtualFleetOptions
  #vm: VirtualMachine | undefined

  private constructor(lab: Lab, centre: Centre, agent: AgentProgram, options: VirtualFleetOptions) {
    this.lab = lab
    this.centre = centre
    this.agent = agent
    this.#options = options
  }

  /** The machine is installed and off. */
  static async install(makeOptions: (lab: Lab) => Promise<VirtualFleetOptions>): Promise<VirtualFleet> {
    const agent = await buildAgentProgram()
    const lab = await startLab()
    try {
      const options = await makeOptions(lab)
      const fleet = new VirtualFleet(lab, await startCentre(lab), agent, options)
      const { older = [], store = [], diskSerial, hardware, ...more } = options
      const names = older.map((_, index) => `older${index}`)
      const systems: Record<string, SystemOptions> = { olaf: await fleet.systemOf() }
      for (const [index, change] of older.entries()) {
        const generation = `older${index}`
        systems[generation] = await fleet.systemOf({ generation, ...change })
      }
      const paths = await buildSystems(systems)
      fleet.#vm = await VirtualMachine.install(lab, 'olaf', 0, {
        ...more,
        systems: [...names, 'olaf'].map(name => paths[name] ?? ''),
        runs: names.length + 1,
        store: [agent.node, agent.path, ...store],
        hardware: { ...hardware, diskSerial },
      })
      return fleet
    } catch (error) {
      await lab[Symbol.asyncDispose]()
      throw error
    }
  }

  get vm(): VirtualMachine {
    if (!this.#vm) throw new Error('the machine is not installed yet')
    return this.#vm
  }

  /** A system with network and agent; the agent knows an address and two pins, and has no token. */
  async systemOf(change: SystemOptions = {}): Promise<SystemOptions> {
    const config = {
      coordinator: `${COORDINATOR_ADDRESS}:${PORTS.enrolment}`,
      caPin: await this.centre.fleet.caPin(),
      trustPin: this.centre.operator.trustPin,
      keyBits: 2048,
      allow: ['apply', 'reboot'],
      retry: { firstMs: 500, mostMs: 2_000 },
      sourceBuild: { enabled: true, leastMemoryBytes: 0 },
    }
    return await virtualSystem({
      hostName: 'olaf',
      network: { address: virtualAddress(0) },
      agent: { package: this.agent.path, config, deadMan: this.agent.deadMan },
      ...this.#options.system,
      ...change,
    })
  }

  /** Lets the machine in, as an operator does who looks at it. */
  async approve(): Promise<void> {
    const waiting = await this.untilShown('pending', ({ state }) => state === MachineState.PENDING)
    await this.centre.fleet.ok('approve', waiting.id.slice(0, 12))
    await this.untilShown('active', ({ state, online }) => state === MachineState.ACTIVE && online)
  }

  async untilShown(what: string, accept: (machine: Machine) => boolean): Promise<Machine> {
    const look = async () => {
      const { machines } = await this.centre.fleet.api.listMachines({ where: '', withFacts: true })
      return machines.find(accept)
    }
    return await waitUntil(`machine that is ${what}`, look, slowly).catch(this.#withJournal)
  }

  /** Publishes another system for the machine and orders it there; the operation's id. */
  async order(change: SystemOptions): Promise<string> {
    const directory = await mkdtemp(join(this.lab.dir, 'fleet-'))
    await writeSystemsFlake(directory, { olaf: await this.systemOf(change) })
    const fleet = ['[fleet]', 'name = "lab"', `id = "${this.centre.operator.fleetId}"`, '']
    const host = [
      '[hosts.olaf]',
      'config = "nixosConfigurations.olaf"',
      `disk = { serial = "${this.#options.diskSerial}" }`,
      'soak = "2s"',
      'confirm-within = "15m"',
      'reboot = "whenever-changed"',
    ]
    await writeFile(join(directory, 'fleet.toml'), [...fleet, ...host, ''].join('\n'))
    await this.centre.operator.publish({ directory })
    await this.untilShown('olaf', machine => machine.host === 'olaf' && machine.online)
    const { operations } = await this.centre.fleet.api.giveOrders({
      refs: ['olaf'],
      requestId: randomId(),
      action: { case: 'apply', value: { revision: 0n } },
    })
    return operations[0]?.operationId ?? ''
  }

  /** The end of an operation as the coordinator was told it; undefined: it is not over. */
  async outcomeNow(id: string): Promise<Outcome | undefined> {
    return (await this.centre.fleet.api.listOperations({ operationIds: [id] })).operations[0]?.outcome
  }

  async outcomeOf(id: string): Promise<Outcome> {
    return await waitUntil(`outcome of ${id}`, () => this.outcomeNow(id), slowly).catch(this.#withJournal)
  }

  /** Orders the machine to another system, and waits for the end. */
  async apply(change: SystemOptions): Promise<{ outcome: Outcome; system: string }> {
    const outcome = await this.outcomeOf(await this.order(change))
    const { olaf: system } = await buildSystems({ olaf: await this.systemOf(change) })
    return { outcome, system }
  }

  readonly #withJournal = async (error: Error): Promise<never> => {
    const said = await this.vm.journal('muster-agent', '--lines=40')
    throw new Error(`${error.message}; its agent says:\n${said}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]()
  }
}
