import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { vi } from 'vitest'
import { checkout, Program } from '../support/program.ts'

/** `npm start` as a process, with what it printed. */
export class RunningStart implements AsyncDisposable {
  readonly program: Program
  readonly state: string

  constructor(
    state: string,
    args: readonly string[] = [],
    { cwd = checkout, env = {} }: { cwd?: string; env?: Readonly<Record<string, string>> } = {},
  ) {
    this.state = state
    this.program = new Program('npm', ['--silent', 'start', '--', '--state', state, ...args], { cwd, env })
  }

  /** Waits until it says how to stop it: then everything is up. */
  async up(): Promise<this> {
    await vi.waitFor(
      () => {
        if (!this.program.running) return
        if (!/Stop with Ctrl-C/.test(this.program.stdout)) throw new Error(`not up: ${this.program.stdout}`)
      },
      { timeout: 90_000, interval: 200 },
    )
    if (!this.program.running) throw new Error(`it ended: ${this.program.stdout}${this.program.stderr}`)
    return this
  }

  /** The process it names for stopping it. */
  get pid(): number {
    return Number(/kill (\d+)$/m.exec(this.program.stdout)?.[1])
  }

  /** The commands it prints, as they stand there, without what they are for. */
  get commands(): string[] {
    const [, block = ''] =
      /First commands, in another terminal:\n\n([\s\S]*?)\n\n/.exec(this.program.stdout) ?? []
    return block.split('\n').map(line => line.replace(/ {2,}#.*$/, '').trim())
  }

  async machine(): Promise<string> {
    const state: { machine: string } = JSON.parse(
      await readFile(join(this.state, 'agent/state/state.json'), 'utf8'),
    )
    return state.machine
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program.kill('SIGTERM')
    await untilGone(this.state)
  }
}

/** The processes whose command line names this folder. */
export async function processesOf(folder: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name))
  const lines = await Promise.all(
    pids.map(async pid =>
      (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' '),
    ),
  )
  return lines.filter(line => line.includes(folder))
}

/** Waits until no process works in this folder any more. */
export async function untilGone(folder: string): Promise<void> {
  await vi.waitFor(
    async () => {
      const left = await processesOf(folder)
      if (left.length > 0) throw new Error(`still there:\n${left.join('\n')}`)
    },
    { timeout: 30_000, interval: 200 },
  )
}
