import { BoundedOutput } from './bounded-output.ts'
import type { ProcessGroups } from './process-groups.ts'
import type { Ending, RunOptions, RunResult } from './system.ts'

const DEFAULT_MAX_OUTPUT_BYTES = 1024 * 1024

/** Runs a command to its end; both outputs are drained whatever their bound. */
export async function runInGroup(
  groups: ProcessGroups,
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  const group = await groups.start(command, args, { ...options, withInput: options.input !== undefined })
  if (!('child' in group)) return unstarted(group)
  const maxBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES
  const stdout = new BoundedOutput(maxBytes)
  const stderr = new BoundedOutput(maxBytes)
  group.child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk))
  group.child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
  group.child.stdin?.on('error', () => {}) // it ended without reading all: its exit code tells
  if (options.input !== undefined) group.child.stdin?.end(options.input)
  const { ending, drained } = await group.ended
  return {
    ending: toldByWrapper(command, ending, stderr) ?? ending,
    stdout: stdout.text(),
    stdoutBytes: stdout.bytes(),
    stderr: stderr.text(),
    truncated: !drained || stdout.truncated || stderr.truncated,
  }
}

/** The wrapper that ties a command to our life finds out later than we would that the command cannot be executed. */
function toldByWrapper(command: string, ending: Ending, stderr: BoundedOutput): Ending | undefined {
  if (ending.kind !== 'exited' || (ending.exitCode !== 126 && ending.exitCode !== 127)) return undefined
  const reason = /^setpriv: failed to execute .*: ([^:\n]+)\n$/.exec(stderr.text())?.[1]
  return reason === undefined ? undefined : { kind: 'not-started', command, reason }
}

/** The result of a command that printed nothing, because it never ran. */
export function unstarted(ending: Ending): RunResult {
  return { ending, stdout: '', stdoutBytes: new Uint8Array(), stderr: '', truncated: false }
}
