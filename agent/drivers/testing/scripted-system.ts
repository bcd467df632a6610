import { createRootedFiles } from '../../system/rooted-files.ts'
import { unstarted } from '../../system/run-command.ts'
import type { Ending, RunOptions, RunResult, System } from '../../system/system.ts'

/** What was run, as one line of words, and what it read. */
export interface Ran {
  readonly line: string
  readonly input: string
}

/** An answer: what is printed, or how it fails. A function is asked anew each time. */
export type Answer =
  | string
  | { readonly exitCode: number; readonly stderr: string }
  /** What goes well and says something beside its answer. */
  | { readonly stdout: string; readonly stderr: string }
  | { readonly ending: Ending }
export type Script = readonly (readonly [RegExp, Answer | ((ran: Ran) => Answer)])[]

/**
 * A machine whose files are below a folder and whose programs answer by a script: the first pattern that fits the line of
 * words counts. What the script does not know is not found, as on a machine without the program.
 */
export interface ScriptedSystem extends System {
  readonly ran: readonly Ran[]
}

export function createScriptedSystem(root: string, script: Script): ScriptedSystem {
  const ran: Ran[] = []
  return {
    ...createRootedFiles(root),
    ran,
    run: async (command, args, options) => {
      const words = { line: [command, ...args].join(' '), input: textOf(options) }
      ran.push(words)
      if (options.signal?.aborted) return unstarted({ kind: 'cancelled' })
      const answer = (asked: Ran) => {
        const found = script.find(([pattern]) => pattern.test(asked.line))?.[1]
        if (found === undefined) return unstarted({ kind: 'not-found', command })
        return resultOf(typeof found === 'function' ? found(asked) : found)
      }
      const [verb, properties, ...units] = args
      if (command !== 'systemctl' || verb !== 'show' || units.length < 2) return answer(words)
      // What the script says of each, with an empty line between two.
      const each = units.map(unit => answer({ ...words, line: `systemctl show ${properties} ${unit}` }))
      const failed = each.find(({ stdout, ending }) => stdout === '' || ending.kind !== 'exited')
      return failed ?? resultOf(each.map(({ stdout }) => stdout).join('\n'))
    },
    stream: () => {
      throw new Error('drivers stream nothing')
    },
  }
}

function textOf({ input }: RunOptions): string {
  return input === undefined ? '' : Buffer.from(input).toString('utf8')
}

function resultOf(answer: Answer): RunResult {
  if (typeof answer === 'object' && 'ending' in answer) return unstarted(answer.ending)
  const stdout = typeof answer === 'string' ? answer : 'stdout' in answer ? answer.stdout : ''
  const exitCode = typeof answer === 'object' && 'exitCode' in answer ? answer.exitCode : 0
  return {
    ending: { kind: 'exited', exitCode },
    stdout,
    stdoutBytes: Buffer.from(stdout),
    stderr: typeof answer === 'string' ? '' : answer.stderr,
    truncated: false,
  }
}
