import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { credentials } from '@grpc/grpc-js'
import { type Hardware, writeMadeUpRoot } from '../../scripts/made-up-root.ts'
import { endMadeUpUnits } from '../../scripts/made-up-units.ts'
import { OperatorService } from '../../shared/gen/muster/v1/operator_pb.ts'
import { RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import { freePort } from './free-port.ts'
import { type Finished, Program, type ProgramOptions, programFile, runProgram } from './program.ts'
import { waitUntil } from './wait-until.ts'

/** A coordinator and agents, each a process of its own, over real mutual TLS and real files below one folder. */
export class Fleet implements AsyncDisposable {
  readonly dir: string
  readonly enrolmentPort: number
  readonly fleetPort: number
  readonly #config: object
  readonly #launch: readonly string[]
  readonly agents: AgentProcess[] = []
  coordinator: Program | undefined
  readonly #coordinators: Program[] = []
  #api: RpcClient<typeof OperatorService> | undefined
  #rollouts: RpcClient<typeof RolloutService> | undefined

  /** `launch` stands in front of the coordinator's command, to start it in another network. */
  constructor(
    dir: string,
    enrolmentPort: number,
    fleetPort: number,
    config: object,
    launch: readonly string[] = [],
  ) {
    this.dir = dir
    this.enrolmentPort = enrolmentPort
    this.fleetPort = fleetPort
    this.#config = config
    this.#launch = launch
  }

  get socket(): string {
    return join(this.dir, 'c/coordinator.sock')
  }

  get coordinatorState(): string {
    return join(this.dir, 'c')
  }

  /** The operators' API by the local socket; for what a test asks often, since a command takes a process each time. */
  get api(): RpcClient<typeof OperatorService> {
    this.#api ??= createClient(OperatorService, `unix:${this.socket}`, credentials.createInsecure())
    return this.#api
  }

  /** Rollouts, by the local socket as well. */
  get rollouts(): RpcClient<typeof RolloutService> {
    this.#rollouts ??= createClient(RolloutService, `unix:${this.socket}`, credentials.createInsecure())
    return this.#rollouts
  }

  /** Starts the coordinator, or a program in its place, again on the same state, and waits until it answers. */
  async startCoordinator(file = programFile('coordinator'), env: ProgramOptions['env'] = {}): Promise<void> {
    const config = join(this.dir, 'coordinator.json')
    await writeFile(
      config,
      JSON.stringify({
        stateDir: this.coordinatorState,
        enrolmentListen: `127.0.0.1:${this.enrolmentPort}`,
        fleetListen: `127.0.0.1:${this.fleetPort}`,
        fleetAddress: `127.0.0.1:${this.fleetPort}`,
        names: ['127.0.0.1'],
        heartbeatSeconds: 1,
        challengeSeconds: 1,
        ...this.#config,
      }),
    )
    const command = [...this.#launch, process.execPath, file, '--config', config]
    const program = new Program(command[0] ?? '', command.slice(1), { env })
    this.coordinator = program
    this.#coordinators.push(program)
    await waitUntil(
      'answer of the coordinator',
      async () => {
        // Ended: no more waiting helps.
        if (program.running) await this.api.getFleet({}, { deadlineMs: 2_000 })
        return true as const
      },
      { timeoutMs: 90_000, everyMs: 100 },
    )
    if (!program.running) throw new Error(`the coordinator ended:\n${program.stdout}\n${program.stderr}`)
  }

  /** Runs the operator's command by the coordinator's local socket. */
  muster(...args: string[]): Promise<Finished> {
    return this.musterWith({}, ...args)
  }

  musterWith(options: ProgramOptions, ...args: string[]): Promise<Finished> {
    const env = {
      MUSTER_SOCKET: this.socket,
      MUSTER_CONFIG_HOME: join(this.dir, 'operator'),
      NO_COLOR: '1',
      ...options.env,
    }
    return runProgram(process.execPath, [programFile('muster'), ...args], { ...options, env })
  }

  /** Runs a command that must succeed; its standard output. */
  async ok(...args: string[]): Promise<string> {
    return await this.okWith({}, ...args)
  }

  async okWith(options: ProgramOptions, ...args: string[]): Promise<string> {
    const result = await this.musterWith(options, ...args)
    if (result.code !== 0) {
      throw new Error(`muster ${args.join(' ')}: exit ${result.code}\n${result.stdout}\n${result.stderr}`)
    }
    return result.stdout
  }

  /** What a command says with `-o json`. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look at parts of what came and fail where it is not as expected
  async json(...args: string[]): Promise<any> {
    return JSON.parse(await this.ok(...args, '-o', 'json'))
  }

  /** Makes `muster init` in a folder of its own and gives the trust set to the coordinator. Says where and the pin. */
  async initFleet(name = 'home'): Promise<{ directory: string }> {
    const directory = join(this.dir, 'fleet')
    await this.ok('init', directory, '--name', name)
    return { directory }
  }

  async caPin(): Promise<string> {
    return (await this.api.getFleet({})).caPin
  }

  /** A new machine with hardware of its own; started at once unless told otherwise. */
  async addAgent(name: string, options: AgentOptions = {}): Promise<AgentProcess> {
    const agent = new AgentProcess(this, name, options)
    this.agents.push(agent)
    await agent.prepare()
    if (options.start !== false) agent.start()
    return agent
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.agents.map(agent => agent.dispose()))
    this.#api?.[Symbol.dispose]()
    this.#rollouts?.[Symbol.dispose]()
    await this.coordinator?.kill('SIGTERM')
    this.#expectNoLeaks()
    if (!process.env.MUSTER_KEEP) await rm(this.dir, { recursive: true, force: true })
  }

  /** What Node says of a program that adds listeners without end; whichever test ran it. */
  #expectNoLeaks(): void {
    const programs = [...this.#coordinators, ...this.agents.flatMap(agent => agent.programs)]
    const told = programs.flatMap(({ stderr }) => /^.*MaxListenersExceededWarning.*$/m.exec(stderr) ?? [])
    if (told.length > 0) throw new Error(`a program of this fleet warned: ${told[0]}`)
  }
}

export interface AgentOptions {
  readonly hardware?: Partial<Hardware>
  /** Laid over the agent's configuration. */
  readonly config?: object
  /** Text of a token; put into a file only root may read. */
  readonly token?: string
  readonly start?: boolean
  readonly env?: Readonly<Record<string, string>>
}

/** One agent: its folder outlives its process. */
export class AgentProcess {
  readonly name: string
  readonly dir: string
  readonly #fleet: Fleet
  readonly #options: AgentOptions
  program: Program | undefined
  /** Everything that was printed by all its processes. */
  readonly programs: Program[] = []

  constructor(fleet: Fleet, name: string, options: AgentOptions) {
    this.#fleet = fleet
    this.name = name
    this.dir = join(fleet.dir, 'a', name)
    this.#options = options
  }

  get stateDir(): string {
    return join(this.dir, 's')
  }

  get socket(): string {
    return join(this.dir, 's/agent.sock')
  }

  get console(): string {
    return join(this.dir, 'console')
  }

  get systemRoot(): string {
    return join(this.dir, 'root')
  }

  get configFile(): string {
    return join(this.dir, 'agent.json')
  }

  async prepare(): Promise<void> {
    await mkdir(join(this.dir, 'root'), { recursive: true })
    await writeMadeUpRoot(join(this.dir, 'hardware'), { seed: this.name, ...this.#options.hardware })
    const tokenFile = join(this.dir, 'token')
    if (this.#options.token !== undefined) await writeFile(tokenFile, this.#options.token, { mode: 0o600 })
    await this.configure(this.#options.token === undefined ? {} : { tokenFile })
  }

  /** Writes the configuration anew. */
  async configure(over: object = {}): Promise<void> {
    const pinned = this.#options.token === undefined ? { caPin: await this.#fleet.caPin() } : {}
    await writeFile(
      this.configFile,
      JSON.stringify({
        coordinator: `127.0.0.1:${this.#fleet.enrolmentPort}`,
        ...pinned,
        stateDir: this.stateDir,
        socket: this.socket,
        factsRoot: join(this.dir, 'hardware'),
        systemRoot: this.systemRoot,
        simulated: true,
        console: this.console,
        retry: { firstMs: 100, mostMs: 1000 },
        keyBits: 2048,
        sourceBuild: { enabled: true, leastMemoryBytes: 0 },
        ...this.#options.config,
        ...over,
      }),
    )
  }

  start(): Program {
    const program = new Program(process.execPath, [programFile('agent'), '--config', this.configFile], {
      env: this.#options.env ?? {},
    })
    this.program = program
    this.programs.push(program)
    return program
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Finished | undefined> {
    return await this.program?.kill(signal)
  }

  /** Ends it with all that outlives it on its made-up machine. */
  async dispose(): Promise<void> {
    await this.kill()
    await endMadeUpUnits(this.stateDir)
  }

  /** Runs a command of the agent's on its machine, as root does there. */
  async local(...args: string[]): Promise<Finished> {
    return await runProgram(process.execPath, [programFile('agent'), ...args, '--socket', this.socket])
  }

  /** What stands on its console. */
  async consoleText(): Promise<string> {
    return await readFile(this.console, 'utf8').catch(() => '')
  }

  /** All it logged, over all its processes. */
  logs(): Record<string, unknown>[] {
    return this.programs.flatMap(program => program.log())
  }
}

/** A fleet without machines. */
export async function startFleet(config: object = {}): Promise<Fleet> {
  // Short, because a unix socket's path holds 107 bytes.
  const dir = await mkdtemp(join(tmpdir(), 'mf-'))
  const fleet = new Fleet(dir, await freePort(), await freePort(), config)
  await fleet.startCoordinator()
  return fleet
}
