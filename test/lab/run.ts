import { type Finished, type ProgramOptions, runProgram } from '../support/program.ts'

/** A command of the host that must succeed; throws what it printed otherwise. */
export async function must(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<Finished> {
  const result = await runProgram(command, args, { cwd: '/', ...options })
  if (result.code === 0) return result
  const how = result.signal === null ? `exit ${result.code}` : `ended by ${result.signal}`
  throw new Error(`${command} ${args.join(' ')}: ${how}\n${tail(result.stdout)}\n${tail(result.stderr)}`)
}

/** The end of what a program printed: enough to see why it failed. */
export function tail(text: string, characters = 4_000): string {
  return text.length > characters ? `…${text.slice(-characters)}` : text
}
