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
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
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
  return { code: typeof code === 'number' ? code : null, ...said }
}
