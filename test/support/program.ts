import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

export const checkout = join(import.meta.dirname, '../..')
export const programFile = (name: 'agent' | 'coordinator' | 'muster') => join(checkout, `dist/${name}.mjs`)

/** A program of dist/ and, transitively, the parts that it imports by a relative name. */
export async function filesOf(program: string): Promise<readonly string[]> {
  const files = new Set([program])
  for (const file of files) {
    const text = await readFile(file, 'utf8')
    for (const [, name] of text.matchAll(/(?:from|import|import\()\s*["'](\.{1,2}\/[\w./-]+\.mjs)["']/g)) {
      if (name !== undefined) files.add(join(dirname(file), name))
    }
  }
  return [...files]
}

export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly input?: string
  readonly timeoutMs?: number
}

/** A program of ours as a process of its own, with all it printed. */
export class Program implements AsyncDisposable {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly finished: Promise<Finished>

  constructor(command: string, args: readonly string[], options: ProgramOptions = {}) {
    this.child = spawn(command, args, {
      cwd: options.cwd ?? checkout,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.child.stdin?.on('error', () => {}) // a program that ends without reading is no error of the test
    this.child.stdin?.end(options.input ?? '')
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.finished = once(this.child, 'close').then(([code, signal]) => ({
      code: typeof code === 'number' ? code : null,
      signal: typeof signal === 'string' ? (signal as NodeJS.Signals) : null,
      stdout: this.stdout,
      stderr: this.stderr,
    }))
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  /** All lines of standard output that are JSON objects: the program's log. */
  log(): Record<string, unknown>[] {
    return this.stdout.split('\n').flatMap(line => {
      try {
        const parsed: unknown = JSON.parse(line)
        return typeof parsed === 'object' && parsed !== null
          ? [Object.fromEntries(Object.entries(parsed))]
          : []
      } catch {
        return []
      }
    })
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Finished> {
    if (this.running) this.child.kill(signal)
    return await this.finished
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}

/** Runs a program to its end. */
export async function runProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<Finished> {
  const program = new Program(command, args, options)
  const timer = setTimeout(() => program.child.kill('SIGKILL'), options.timeoutMs ?? 120_000)
  try {
    return await program.finished
  } finally {
    clearTimeout(timer)
  }
}
