import { describeEnding, type RunResult, type System, succeeded } from '../system/system.ts'
import { redact } from './redact.ts'
import { failed, failedEnding, type Result } from './result.ts'

export interface ProgramRun {
  readonly args: readonly string[]
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
  /** The only way in which a secret reaches a program, beside a root-only file. */
  readonly input?: string | undefined
  readonly maxOutputBytes?: number | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly cwd?: string | undefined
}

/** Programs of the cluster, looked for in the configuration's folders first and in the agent's own PATH then. */
export interface Programs {
  readonly system: System
  readonly folders: readonly string[]
}

/** Runs a program of the cluster. Only exit code 0 is success; half an answer is none. */
export async function runProgram(
  programs: Programs,
  name: string,
  run: ProgramRun,
): Promise<Result<RunResult> & { readonly stderr: string }> {
  const { args, ...options } = run
  const command = await findProgram(programs, name)
  const result = await programs.system.run(command, args, options)
  if (!succeeded(result.ending)) {
    return {
      ...failedEnding(shownCommand(name, args), result.ending, redact(result.stderr)),
      stderr: result.stderr,
    }
  }
  if (result.truncated) {
    const reason = `${shownCommand(name, args)}: printed more than is taken, ${describeEnding(name, result.ending)}`
    return { ...failed('unreadable', reason), stderr: result.stderr }
  }
  return { kind: 'done', value: result, stderr: result.stderr }
}

/** Where a program is: in the first of the folders that has it, else by its name alone, wherever PATH has it. */
export async function findProgram({ system, folders }: Programs, name: string): Promise<string> {
  for (const folder of folders) {
    const path = `${folder}/${name}`
    if ((await system.exists(path)).kind === 'present') return path
  }
  return name
}

/** The command and the words that say what it does, for people: nothing that is long. */
function shownCommand(name: string, args: readonly string[]): string {
  const words = args.filter(arg => arg.length <= 80).slice(0, 4)
  return redact([name, ...words].join(' '))
}
