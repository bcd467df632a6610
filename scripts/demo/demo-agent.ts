import { mkdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { endMadeUpUnits } from '../made-up-units.ts'
import { ChildProgram } from '../start/child-program.ts'
import type { Builder } from './builder.ts'
import { DemoError } from './demo-error.ts'
import { runCommand } from './run-command.ts'

export interface DemoAgentOptions {
  readonly top: string
  readonly folder: string
  readonly builder: Builder
  /** Host and port of the coordinator. */
  readonly coordinator: string
  readonly caPin: string
  readonly trustPin: string
  /** Text of a token; none: the machine waits. */
  readonly token: string | undefined
  /** A machine that is made up, or the one that the demo runs on. */
  readonly madeUp: boolean
}

/** One agent of the demo: a real process with a folder of its own. */
export class DemoAgent {
  readonly #options: DemoAgentOptions
  #child: ChildProgram | undefined

  constructor(options: DemoAgentOptions) {
    this.#options = options
  }

  get root(): string {
    return join(this.#options.folder, 'root')
  }

  get store(): string {
    return join(this.#options.folder, 'store')
  }

  get console(): string {
    return join(this.#options.folder, 'console.log')
  }

  get child(): ChildProgram | undefined {
    return this.#child
  }

  async start(): Promise<void> {
    const { top, folder, builder, coordinator, caPin, trustPin, token, madeUp } = this.#options
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const tokenFile = join(folder, 'token')
    if (token !== undefined) await writeFile(tokenFile, `${token}\n`, { mode: 0o600, flag: 'wx' })
    const simulated = builder.kind === 'simulated'
    const config = join(folder, 'agent.json')
    await writeFile(
      config,
      JSON.stringify(
        {
          coordinator,
          caPin,
          trustPin,
          ...(token === undefined ? {} : { tokenFile }),
          stateDir: join(folder, 'state'),
          socket: join(folder, 'agent.sock'),
          console: this.console,
          keyBits: 2048,
          retry: { firstMs: 200, mostMs: 1_000 },
          sourceBuild: { enabled: true, leastMemoryBytes: 0 },
          ...(madeUp
            ? {
                simulated: true,
                factsRoot: this.root,
                systemRoot: this.root,
                toolPath: builder.tools,
                ...(simulated ? { storeDir: this.store } : {}),
              }
            : { activation: 'never', ...(simulated ? {} : { toolPath: builder.tools }) }),
        },
        undefined,
        2,
      ),
    )
    // The folder that stand-ins may act on; without it they refuse. The machine the demo runs on has none.
    const own = madeUp ? { MUSTER_STANDIN_ROOT: this.root, MUSTER_SIMULATED_STORE: this.store } : {}
    const env = { ...builder.env, ...own }
    this.#child = new ChildProgram({ top, program: 'agent', config, env, log: join(folder, 'agent.log') })
  }

  /** Makes the made-up root look like a machine that runs this system. */
  async install(toplevel: string, signal: AbortSignal): Promise<void> {
    const { top, builder } = this.#options
    await rm(join(this.root, 'nix/var/nix/profiles'), { recursive: true, force: true })
    const env = { ...builder.env, PATH: builder.tools }
    const prepared = await runCommand(join(top, 'test/standin/prepare-root'), [this.root, toplevel], {
      env,
      signal,
    })
    if (prepared.code !== 0) throw new DemoError(`${this.root} could not be prepared: ${prepared.both}`)
  }

  async id(): Promise<string | undefined> {
    try {
      const state: { machine?: string } = JSON.parse(
        await readFile(join(this.#options.folder, 'state/state.json'), 'utf8'),
      )
      return state.machine
    } catch {
      return undefined // not written yet
    }
  }

  /** What it runs, and its generation: what would be /run/current-system on a real machine. */
  async running(): Promise<{ system: string; generation: string }> {
    return {
      system: await readlink(join(this.root, 'run/current-system')),
      generation: await readlink(join(this.root, 'nix/var/nix/profiles/system')),
    }
  }

  async stop(): Promise<void> {
    await this.#child?.stop()
    // What stands for units outlives the agent, as units do; the machine goes with the demo.
    await endMadeUpUnits(join(this.#options.folder, 'state'))
  }
}
