import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { BoundedLog } from './bounded-log.ts'

export interface ChildOptions {
  readonly top: string
  readonly program: 'coordinator' | 'agent'
  readonly config: string
  readonly log: string
  readonly env?: Readonly<Record<string, string>>
}

const STOP_MS = 20_000

/**
 * One of our programs as a child. It is in a process group of its own, so that Ctrl-C reaches only its parent, which
 * stops all in order; and it ends with its parent, whatever that dies of (guard.mjs).
 */
export class ChildProgram {
  readonly #process: ChildProcess
  readonly #log: BoundedLog
  /** How it ended, for people. */
  readonly ended: Promise<string>

  constructor({ top, program, config, log, env = {} }: ChildOptions) {
    this.#log = new BoundedLog(log)
    const guard = join(top, 'scripts/start/guard.mjs')
    const script = join(top, `dist/${program}.mjs`)
    this.#process = spawn(process.execPath, ['--import', guard, script, '--config', config], {
      detached: true,
      cwd: '/',
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (chunk: Buffer) => this.#log.add(chunk))
    }
    this.ended = once(this.#process, 'close').then(
      ([code, signal]) => (typeof signal === 'string' ? `was ended by ${signal}` : `ended with ${code}`),
      (error: unknown) => `could not be started: ${String(error)}`,
    )
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  get lastLines(): readonly string[] {
    return this.#log.lastLines
  }

  get logFile(): string {
    return this.#log.path
  }

  /** Asks it to end, and kills it when it does not. */
  async stop(): Promise<void> {
    if (!this.running) return
    this.#process.kill('SIGTERM')
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS)
    await this.ended
    clearTimeout(timer)
  }
}
