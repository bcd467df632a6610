import { basename } from 'node:path'
import { createRootedFiles, type Files } from './rooted-files.ts'
import { unstarted } from './run-command.ts'
import type { OutputLine, RunResult, System } from './system.ts'

/**
 * A machine that exists only as a folder: its files are below `root`, its commands answer with the text in
 * `root/commands/NAME.json` or `NAME.txt`, where NAME is the command and, when there is such a file, its first plain
 * word (`ip -j addr` is `ip-addr`, `dmidecode -t 17` is `dmidecode-17`). A command that is named by its path goes by the
 * path's last part. A `NAME.exit` beside it holds an exit code.
 * A command without a file is not found. No real command is ever run.
 */
export function createMadeUpSystem(root: string): System {
  const files = createRootedFiles(root)
  return {
    ...files,
    run: (command, args, options) =>
      options.signal?.aborted
        ? Promise.resolve(unstarted({ kind: 'cancelled' }))
        : answer(files, command, args, options.maxOutputBytes ?? MAX_ANSWER_BYTES),
    stream: (command, args) => {
      const answered = answer(files, command, args, MAX_ANSWER_BYTES)
      return {
        lines: linesOf(answered),
        result: answered.then(({ ending, truncated }) => ({ ending, truncated })),
        cancel: () => {},
      }
    },
  }
}

const MAX_ANSWER_BYTES = 1024 * 1024

async function answer(
  files: Files,
  command: string,
  args: readonly string[],
  maxBytes: number,
): Promise<RunResult> {
  const word = args.find(arg => /^[a-z0-9]+$/.test(arg))
  const last = basename(command)
  const names = word === undefined ? [last] : [`${last}-${word}`, last]
  if (!/^[a-z0-9._-]+$/.test(last)) return unstarted({ kind: 'not-found', command })
  for (const name of names) {
    for (const extension of ['json', 'txt']) {
      const reading = await files.readFile(`/commands/${name}.${extension}`, maxBytes)
      if (reading.kind === 'missing') continue
      if (reading.kind === 'unreadable') {
        return unstarted({ kind: 'not-started', command, reason: reading.code })
      }
      return {
        ending: { kind: 'exited', exitCode: await exitCodeOf(files, name) },
        stdout: reading.bytes.toString('utf8'),
        stdoutBytes: reading.bytes,
        stderr: '',
        truncated: reading.truncated,
      }
    }
  }
  return unstarted({ kind: 'not-found', command })
}

async function exitCodeOf(files: Files, name: string): Promise<number> {
  const reading = await files.readFile(`/commands/${name}.exit`, 16)
  if (reading.kind !== 'file') return 0
  const code = Number(reading.bytes.toString('utf8').trim())
  return Number.isInteger(code) ? code : 1
}

async function* linesOf(answered: Promise<RunResult>): AsyncGenerator<OutputLine> {
  const { stdout } = await answered
  for (const text of stdout.split('\n').slice(0, stdout.endsWith('\n') ? -1 : undefined)) {
    yield { source: 'stdout', text, cut: false }
  }
}
