import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import type { Clock } from '../../../shared/clock.ts'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../../shared/ids.ts'
import { type ClusterDoor, noClusterDoor } from '../../clusters/cluster-door.ts'
import { parseConfig } from '../../config.ts'
import { createLog } from '../../log.ts'
import { ScriptedUnits } from '../../operation/testing/scripted-units.ts'
import { type Agent, startAgent } from '../../start.ts'
import { createMadeUpSystem } from '../../system/made-up-system.ts'
import type { SerialisedFacts } from '../facts-keeper.ts'

/** A folder for an agent, and the agent in it; both are gone afterwards. */
export class AgentUnderTest implements AsyncDisposable {
  readonly directory: string
  readonly lines: string[] = []
  serial = 'S1'
  clusterDoor: ClusterDoor = noClusterDoor
  readFactsFails: string | undefined
  agent: Agent | undefined
  #config: object

  private constructor(directory: string, config: object) {
    this.directory = directory
    this.#config = config
  }

  static async prepare(config: object): Promise<AgentUnderTest> {
    const directory = await mkdtemp(join(tmpdir(), 'ma-'))
    // Without a boot and its uptime a machine is none: no operation is measured by anything else.
    const proc = join(directory, 'root/proc')
    await mkdir(join(proc, 'sys/kernel/random'), { recursive: true })
    await writeFile(join(proc, 'sys/kernel/random/boot_id'), 'boot-1\n')
    await writeFile(join(proc, 'uptime'), '100.00 0.00\n')
    return new AgentUnderTest(directory, config)
  }

  get stateDir(): string {
    return join(this.directory, 'state')
  }

  get socket(): string {
    return join(this.directory, 'run/agent.sock')
  }

  get phase(): string | undefined {
    return this.agent?.board.phase
  }

  get reason(): string | undefined {
    return this.agent?.board.reason
  }

  configure(change: object): void {
    this.#config = { ...this.#config, ...change }
  }

  async start(overrides: { readonly clock?: Clock; readonly bootId?: string } = {}): Promise<Agent> {
    const config = parseConfig('agent.json', {
      stateDir: this.stateDir,
      socket: this.socket,
      console: join(this.directory, 'console'),
      simulated: true,
      systemRoot: join(this.directory, 'root'),
      retry: { firstMs: 10, mostMs: 50, connectMs: 2_000 },
      keyBits: 2048,
      logLevel: 'debug',
      ...this.#config,
    })
    this.agent = await startAgent(
      config,
      {
        system: createMadeUpSystem(join(this.directory, 'root')),
        probed: createMadeUpSystem(join(this.directory, 'root')),
        program: ['/usr/bin/muster-agent'],
        clusterDoor: this.clusterDoor,
        makeUnits: () => new ScriptedUnits(createMadeUpSystem(join(this.directory, 'root'))),
        children: {
          facts: async () => this.#facts(),
          rule: async rule => ({ rule, kind: 'error', reason: 'not asked in this test' }),
        },
      },
      { log: createLog('debug', line => this.lines.push(line)), ...overrides },
    )
    return this.agent
  }

  #facts(): SerialisedFacts {
    if (this.readFactsFails !== undefined) throw new Error(this.readFactsFails)
    const bytes = toBinary(
      FactsSchema,
      create(FactsSchema, { system: { serial: this.serial }, simulated: true }),
    )
    return { bytes, digest: sha256Hex(bytes) }
  }

  async stop(): Promise<void> {
    const { agent } = this
    this.agent = undefined
    await agent?.[Symbol.asyncDispose]()
  }

  file(name: string): string {
    return join(this.stateDir, name)
  }

  async state(): Promise<Record<string, unknown>> {
    const value: unknown = JSON.parse(await readFile(this.file('state.json'), 'utf8'))
    return typeof value === 'object' && value !== null ? { ...value } : {}
  }

  async console(): Promise<string> {
    return readFile(join(this.directory, 'console'), 'utf8').catch(() => '')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    await rm(this.directory, { recursive: true, force: true })
  }
}
