import type { Ending, StreamOptions } from '../system/system.ts'
import type { PhaseContext } from './context.ts'

/** The last lines a command said that speak of an error, for a reason people can act on. */
const REMEMBERED = 5

export interface LoggedRun {
  readonly ending: Ending
  readonly stdout: readonly string[]
  /** Lines of standard error that name an error, the last few. */
  readonly errors: readonly string[]
}

/** Runs a command with its output going to the operation's log, line by line. At most 64 lines of stdout are kept. */
export async function runLogged(
  { deps, say }: PhaseContext,
  command: string,
  args: readonly string[],
  options: StreamOptions,
  onLine: (text: string) => void = () => {},
): Promise<LoggedRun> {
  const running = deps.system.stream(command, args, options)
  const stdout: string[] = []
  const errors: string[] = []
  for await (const { source, text } of running.lines) {
    say(text)
    onLine(text)
    if (source === 'stdout' && stdout.length < 64) stdout.push(text)
    if (source === 'stderr' && /\berror\b/i.test(text)) {
      errors.push(text.trim().slice(0, 300))
      if (errors.length > REMEMBERED) errors.shift()
    }
  }
  return { ending: (await running.result).ending, stdout, errors }
}

/** The exit code of an ending that has one. */
export function exitCodeOf(ending: Ending): number | undefined {
  return ending.kind === 'exited' ? ending.exitCode : undefined
}
