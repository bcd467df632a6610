import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { Outcome } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationSummary } from '../../shared/gen/muster/v1/order_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { Fleet } from '../support/fleet.ts'
import { addOperator, type MadeRevision, type Operator, type PublishOptions } from '../support/operator.ts'
import { makeToken } from '../support/shown.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type AgentProgram, buildAgentProgram } from './agent-program.ts'
import { prepareClusterLab } from './clusters/machines.ts'
import { foreignSystem } from './foreign-system.ts'
import { type Lab, startLab } from './lab.ts'
import type { LabMachine } from './machine.ts'
import { COORDINATOR_ADDRESS, machineAddress } from './network.ts'
import { storeLayer } from './store-layer.ts'
import { buildSystems, type SystemOptions, writeSystemsFlake } from './systems.ts'

export interface LabFleetOptions {
  /** Names of the hosts, which are the machines' too. */
  readonly machines: readonly string[]
  /** What a host's first system has besides network and agent, by host. */
  readonly systems?: Readonly<Record<string, SystemOptions>>
  /** The agent of the first systems; absent: the one that was built. */
  readonly agent?: AgentProgram
  /** Agents that later systems name; every machine has them in its store. */
  readonly moreAgents?: readonly AgentProgram[]
  /** Laid over the configuration of every agent, and of the coordinator. */
  readonly agentConfig?: object
  readonly coordinatorConfig?: object
  /** Whether Kubernetes can run in the machines: `whyNoClusters` must have no objection. */
  readonly kubernetes?: boolean
  /** Hosts whose system somebody else manages: Debian with the agent as a service, and with these files and services of its owner. */
  readonly foreign?: Readonly<Record<string, ForeignHost>>
  /** Gives the coordinator a trust set, in place of an operator that this process plays; `publish` is not there then. */
  readonly prepareTrust?: (fleet: Fleet) => Promise<void>
}

export interface ForeignHost {
  readonly files: Readonly<Record<string, string>>
  readonly services: readonly string[]
}

export const PORTS = { enrolment: 7443, fleet: 7444 }
const SECRET = '/var/lib/secrets/muster-token'
const BOUND_MS = 180_000
const OUTCOME_MS = 120_000

/**
 * Machines that run a lab system with the agent in it, freshly installed, enrolled by a token as their hosts; an operator
 * with the signing key; the coordinator as a process in their network.
 */
export class LabFleet implements AsyncDisposable {
  readonly lab: Lab
  readonly fleet: Fleet
  readonly #operator: Operator | undefined
  readonly #options: LabFleetOptions & { readonly agent: AgentProgram }
  /** What was published last, by host; the first systems until then. */
  #systems: Readonly<Record<string, SystemOptions>> = {}
  #generation = 1

  constructor(
    lab: Lab,
    fleet: Fleet,
    operator: Operator | undefined,
    options: LabFleetOptions & { readonly agent: AgentProgram },
  ) {
    this.lab = lab
    this.fleet = fleet
    this.#operator = operator
    this.#options = options
    this.#systems = Object.fromEntries(options.machines.map(host => [host, this.firstSystem(host)]))
  }

  get operator(): Operator {
    if (!this.#operator) throw new Error('the keys of this fleet are not in this process: see prepareTrust')
    return this.#operator
  }

  /** What was published last for every host, or its first system. */
  get systems(): Readonly<Record<string, SystemOptions>> {
    return this.#systems
  }

  /** Makes machines, first systems and disks, and starts them; enrolment goes on in them. */
  async install(): Promise<void> {
    const { machines, agent, moreAgents = [], foreign = {} } = this.#options
    const own = Object.entries(this.#systems).filter(([host]) => foreign[host] === undefined)
    const paths = await buildSystems(Object.fromEntries(own))
    const clusterLab = this.#options.kubernetes === true ? await prepareClusterLab(this.lab) : undefined
    const node = await storeLayer(this.lab.root, clusterLab?.layers ?? [], [agent.node])
    const inStore = [agent, ...moreAgents].map(({ path }) => path)
    const layers = await storeLayer(this.lab.root, node, [...inStore, ...Object.values(paths)])
    for (const [index, host] of machines.entries()) {
      const base = clusterLab?.machine(index, machines)
      const machine = await this.lab.startMachine(host, {
        ...base,
        layers,
        start: false,
        ...(foreign[host] === undefined
          ? { system: builtOf(paths, host) }
          : { files: { ...base?.files, ...this.#filesOf(foreign[host]) } }),
      })
      await machine.writeFile(SECRET, await makeToken(this.fleet, { host }), '600')
    }
    await Promise.all(this.lab.machines.map(machine => machine.boot()))
  }

  #filesOf({ files, services }: ForeignHost): Readonly<Record<string, string>> {
    const { agent } = this.#options
    return { ...files, ...foreignSystem(agent, this.agentOf(agent).config, services) }
  }

  /** Installs a host's machine anew on an empty disk, as at first, with a token of its own; it is another machine then. */
  async reinstall(host: string): Promise<void> {
    const machine = this.machine(host)
    await machine.replaceDisk()
    await machine.writeFile(SECRET, await makeToken(this.fleet, { host }), '600')
    await machine.boot()
  }

  /** The system that a host's machine is installed with. */
  firstSystem(host: string): SystemOptions {
    const index = this.#options.machines.indexOf(host)
    if (index < 0) throw new Error(`no machine ${host}; there are ${this.#options.machines.join(', ')}`)
    return {
      network: { address: machineAddress(index) },
      agent: this.agentOf(this.#options.agent),
      ...this.#options.systems?.[host],
    }
  }

  /** What a system says of its agent, for one with another program. */
  agentOf({ path, deadMan }: AgentProgram): NonNullable<SystemOptions['agent']> {
    const config = {
      coordinator: `${COORDINATOR_ADDRESS}:${PORTS.enrolment}`,
      tokenFile: SECRET,
      console: 'none',
      keyBits: 2048,
      allow: ['apply', 'rollback', 'reboot', 'drain'],
      retry: { firstMs: 100, mostMs: 2_000, connectMs: 3_000 },
      sourceBuild: { enabled: true, leastMemoryBytes: 0 },
      ...this.#options.agentConfig,
    }
    return { package: path, config, deadMan }
  }

  /** The agent of the first systems. */
  get agent(): AgentProgram {
    return this.#options.agent
  }

  machine(host: string): LabMachine {
    const found = this.lab.machines.find(({ name }) => name === host)
    if (!found) throw new Error(`no machine ${host}`)
    return found
  }

  /** A machine as the coordinator shows it; undefined: it knows none that is this host. */
  async shown(host: string): Promise<Machine | undefined> {
    const { machines } = await this.fleet.api.listMachines({ where: '' })
    return machines.find(machine => machine.host === host)
  }

  async untilShown(host: string, what: string, accept: (machine: Machine) => boolean): Promise<Machine> {
    let last: Machine | undefined
    const look = async () => {
      last = await this.shown(host)
      return last && accept(last) ? last : undefined
    }
    return await waitUntil(`${host} ${what}`, look, { timeoutMs: BOUND_MS }).catch(async (error: Error) => {
      const seen = last ? `state ${last.state}, online ${last.online}` : 'not known'
      const machine = this.machine(host)
      const said = machine.running ? await machine.journal('muster-agent', '--lines=30') : 'it is off'
      throw new Error(`${error.message}; last seen: ${seen}; its agent says:\n${said}`)
    })
  }

  /** Waits until the host's machine is enrolled and connected. */
  async untilOnline(host: string): Promise<Machine> {
    const isOnline = ({ state, online }: Machine) => state === MachineState.ACTIVE && online
    return await this.untilShown(host, 'active and online', isOnline)
  }

  async untilOffline(host: string): Promise<Machine> {
    return await this.untilShown(host, 'offline', ({ online }) => !online)
  }

  /**
   * Publishes a revision in which the named hosts have other systems: what is given, laid over their first one. The others
   * stay as they were published last. Machines build it themselves.
   */
  async publish(
    change: Readonly<Record<string, SystemOptions>> = {},
    options: PublishOptions & { readonly hostLines?: Readonly<Record<string, string>> } = {},
  ): Promise<MadeRevision> {
    const changed = Object.entries(change).map(([host, system]) => {
      this.#generation += 1
      return [host, { ...this.firstSystem(host), generation: `${this.#generation}`, ...system }] as const
    })
    this.#systems = { ...this.#systems, ...Object.fromEntries(changed) }
    const directory = await mkdtemp(join(this.lab.dir, 'fleet-'))
    await writeSystemsFlake(directory, this.#systems)
    for (const [name, text] of Object.entries(options.files ?? {})) {
      await mkdir(join(directory, name, '..'), { recursive: true })
      await writeFile(join(directory, name), text, { mode: text.startsWith('#!') ? 0o755 : 0o644 })
    }
    const hosts = Object.keys(this.#systems).map(host =>
      [`[hosts.${host}]`, `config = "nixosConfigurations.${host}"`, options.hostLines?.[host] ?? '', ''].join(
        '\n',
      ),
    )
    // What nodes do is looked at here, and not what a rollout waits for before it orders anything.
    const policy = 'max-unavailable = "100%"\nsoak = "0s"\nsilent-percent = 100\nask-gates = "never"\n'
    const head = `[fleet]\nname = "lab"\nid = "${this.operator.fleetId}"\n\n[rollout]\n${policy}`
    // Nothing here waits for minutes; a test that wants to says so.
    const proof = options.toml ?? '[defaults]\nsoak = "1s"\nconfirm-within = "20s"\n'
    await writeFile(join(directory, 'fleet.toml'), [head, proof, ...hosts].join('\n'))
    return await this.operator.publish({ ...options, directory })
  }

  /** The store path that a host's machine will have built of what was published last. */
  async systemOf(host: string): Promise<string> {
    const system = this.#systems[host]
    if (system === undefined) throw new Error(`no host ${host}`)
    return (await buildSystems({ [host]: system }))[host] ?? ''
  }

  /** Orders a host to a revision (absent: the newest); the operation's id. */
  async apply(host: string, revision = 0n): Promise<string> {
    const { operations } = await this.fleet.api.giveOrders({
      refs: [host],
      requestId: randomId(),
      action: { case: 'apply', value: { revision } },
    })
    const id = operations.find(operation => operation.host === host)?.operationId
    if (id === undefined) throw new Error(`no operation for ${host}`)
    return id
  }

  async operation(id: string): Promise<OperationSummary | undefined> {
    return (await this.fleet.api.listOperations({ operationIds: [id] })).operations[0]
  }

  /** Waits for the end of an operation as the coordinator was told it. */
  async waitOutcome(id: string, timeoutMs = OUTCOME_MS): Promise<Outcome> {
    let last: OperationSummary | undefined
    const look = async () => {
      last = await this.operation(id)
      return last?.outcome
    }
    return await waitUntil(`outcome of ${id}`, look, { timeoutMs }).catch(async (error: Error) => {
      const machine = this.lab.machines.find(({ name }) => name === last?.host)
      const said = machine?.running ? await machine.journal('muster-agent', '--lines=40') : 'it is off'
      throw new Error(
        `${error.message}; last seen in phase ${last?.phase}; the agent of ${last?.host}:\n${said}`,
      )
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]()
  }
}

function builtOf(paths: Readonly<Record<string, string>>, host: string): string {
  const system = paths[host]
  if (system === undefined) throw new Error(`no system of ${host} was built`)
  return system
}

/** The coordinator of a lab, and who signs for it. */
export interface Centre {
  readonly fleet: Fleet
  readonly operator: Operator
}

/** Starts a coordinator as a process in the lab's network; the lab ends it. */
export async function startCentre(lab: Lab, over: object = {}): Promise<Centre> {
  const fleet = await startCoordinator(lab, over)
  const operator = await addOperator(fleet)
  lab.defer(() => operator[Symbol.asyncDispose]())
  return { fleet, operator }
}

/** The coordinator alone, which nobody has given a trust set yet. */
async function startCoordinator(lab: Lab, over: object = {}): Promise<Fleet> {
  const dir = join(lab.dir, 'coordinator')
  await mkdir(dir)
  const config = {
    enrolmentListen: `${COORDINATOR_ADDRESS}:${PORTS.enrolment}`,
    fleetListen: `${COORDINATOR_ADDRESS}:${PORTS.fleet}`,
    fleetAddress: `${COORDINATOR_ADDRESS}:${PORTS.fleet}`,
    names: [COORDINATOR_ADDRESS],
    ...over,
  }
  const fleet = new Fleet(dir, PORTS.enrolment, PORTS.fleet, config, lab.inside)
  lab.defer(() => fleet[Symbol.asyncDispose]())
  await fleet.startCoordinator()
  return fleet
}

/** A fleet of lab machines, each active as its host and connected. */
export async function startLabFleet(options: LabFleetOptions): Promise<LabFleet> {
  const agent = options.agent ?? (await buildAgentProgram())
  const lab = await startLab()
  try {
    const { fleet, operator } =
      options.prepareTrust === undefined
        ? await startCentre(lab, options.coordinatorConfig)
        : { fleet: await startCoordinator(lab, options.coordinatorConfig), operator: undefined }
    await options.prepareTrust?.(fleet)
    const labFleet = new LabFleet(lab, fleet, operator, { ...options, agent })
    await labFleet.install()
    await Promise.all(options.machines.map(host => labFleet.untilOnline(host)))
    return labFleet
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}
