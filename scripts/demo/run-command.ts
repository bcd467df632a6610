import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** Both, in the order they came. */
  readonly both: string
}

const DEADLINE_MS = 120_000
const MOST_CHARS = 4_000_000

/** Runs a command to its end, with a deadline and bounded output. */
export async function runCommand(
  command: string,
  args: readonly string[],
  {
    env = {},
    cwd,
    signal,
  }: { env?: Readonly<Record<string, string>>; cwd?: string; signal?: AbortSignal } = {},
): Promise<Ran> {
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    ...(cwd === undefined ? {} : { cwd }),
    ...(signal === undefined ? {} : { signal }),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // Not spawn's own: it goes on when the command could not be started, and keeps this process from ending.
  const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS)
  const said = { stdout: '', stderr: '', both: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      if (said.both.length > MOST_CHARS) return
      said[name] += text
      said.both += text
    })
  }
  const [code] = await once(child, 'close').catch((error: unknown) => {
    said.stderr += String(error)
    said.both += String(error)
    return [null]
  })
  clearTimeout(timer)
  return { code: typeof code === 'number' ? code : null, ...said }
}
