import type { Ending, OutputLine, RunResult, System } from '../../system/system.ts'

/** What a scripted command does: what it changes of the machine, what it says, how it ends. */
export interface ScriptedRun {
  /** 0 where nothing is said. */
  readonly exitCode?: number
  readonly ending?: Ending
  readonly stdout?: readonly string[]
  readonly stderr?: readonly string[]
}
/** Once the signal has fired, the command is gone: what it would have done then does not happen. */
export type Script = (
  args: readonly string[],
  cwd: string | undefined,
  signal?: AbortSignal,
) => ScriptedRun | Promise<ScriptedRun>

/** A machine that exists only in a test: links and files in memory, commands that do what the test says. */
export class ScriptedSystem implements System {
  /** By path: the text of a link. */
  readonly links = new Map<string, string>()
  /** By path: the text of a file. */
  readonly files = new Map<string, string>([['/proc/sys/kernel/random/boot_id', 'boot-1']])
  /** By the command's last name. A command without a script is not found. */
  readonly scripts = new Map<string, Script>()
  /** All commands so far, each as one line. */
  readonly commands: string[] = []
  /** Settings of Nix that streamed commands were given. */
  readonly nixSettings: string[] = []

  async run(
    command: string,
    args: readonly string[],
    options: { cwd?: string | undefined; signal?: AbortSignal | undefined },
  ): Promise<RunResult> {
    const { ending, stdout, stderr } = await this.#play(command, args, options)
    const text = (lines: readonly string[]) => lines.map(line => `${line}\n`).join('')
    return {
      ending,
      stdout: text(stdout),
      stdoutBytes: Buffer.from(text(stdout)),
      stderr: text(stderr),
      truncated: false,
    }
  }

  stream(
    command: string,
    args: readonly string[],
    options: { cwd?: string | undefined; nixSettings?: readonly string[] | undefined },
  ) {
    this.nixSettings.push(...(options.nixSettings ?? []))
    const played = this.#play(command, args, { cwd: options.cwd })
    const lines = async function* (): AsyncGenerator<OutputLine> {
      const { stdout, stderr } = await played
      for (const text of stderr) yield { source: 'stderr', text, cut: false }
      for (const text of stdout) yield { source: 'stdout', text, cut: false }
    }
    return {
      lines: lines(),
      result: played.then(({ ending }) => ({ ending, truncated: false })),
      cancel: () => {},
    }
  }

  async readFile(path: string, maxBytes: number) {
    const text =
      path === '/proc/uptime' ? `${(performance.now() / 1_000).toFixed(2)} 0.00` : this.files.get(path)
    if (text === undefined) return { kind: 'missing' } as const
    return { kind: 'file', bytes: Buffer.from(text).subarray(0, maxBytes), truncated: false } as const
  }

  async readLink(path: string) {
    const target = this.links.get(path)
    return target === undefined ? ({ kind: 'missing' } as const) : ({ kind: 'link', target } as const)
  }

  async listDir(path: string, maxNames = Number.POSITIVE_INFINITY) {
    const below = `${path}/`
    const names = new Set<string>()
    for (const known of [...this.files.keys(), ...this.links.keys()]) {
      if (known.startsWith(below)) names.add(known.slice(below.length).split('/')[0] ?? '')
    }
    if (names.size === 0) return { kind: 'missing' } as const
    const sorted = [...names].toSorted()
    return { kind: 'dir', names: sorted.slice(0, maxNames), truncated: sorted.length > maxNames } as const
  }

  async exists(path: string) {
    return { kind: this.files.has(path) || this.links.has(path) ? 'present' : 'missing' } as const
  }

  async stat(path: string) {
    const text = this.files.get(path)
    if (text === undefined) return { kind: 'missing' } as const
    return { kind: 'stat', sizeBytes: Buffer.byteLength(text), modifiedMs: 0, file: path } as const
  }

  async statLink(path: string) {
    if (!this.links.has(path)) return await this.stat(path)
    return { kind: 'stat', sizeBytes: 0, modifiedMs: 0, file: path } as const
  }

  async space() {
    return { kind: 'missing' } as const
  }

  async #play(
    command: string,
    args: readonly string[],
    { cwd, signal }: { cwd?: string | undefined; signal?: AbortSignal | undefined },
  ) {
    const name = command.slice(command.lastIndexOf('/') + 1)
    this.commands.push([command, ...args].join(' '))
    const script = this.scripts.get(command) ?? this.scripts.get(name)
    if (!script) return { ending: { kind: 'not-found', command } as const, stdout: [], stderr: [] }
    const played = Promise.resolve(script(args, cwd, signal))
    const {
      exitCode = 0,
      ending,
      stdout = [],
      stderr = [],
    } = await (signal ? untilCancelled(played, signal) : played)
    return { ending: ending ?? ({ kind: 'exited', exitCode } as const), stdout, stderr }
  }
}

/** A script that hangs ends when it is told to, as a process does. */
async function untilCancelled(played: Promise<ScriptedRun>, signal: AbortSignal): Promise<ScriptedRun> {
  let cancel = () => {}
  const cancelled = new Promise<ScriptedRun>(resolve => {
    cancel = () => resolve({ ending: { kind: 'cancelled' } })
    if (signal.aborted) cancel()
    signal.addEventListener('abort', cancel, { once: true })
  })
  try {
    return await Promise.race([played, cancelled])
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}
