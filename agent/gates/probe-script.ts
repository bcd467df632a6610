import { join } from 'node:path'
import type { GateProbe } from '../../shared/revision/safety.ts'
import { describeEnding, type System } from '../system/system.ts'
import type { Finding } from './gate-answer.ts'
import { MAX_OUTPUT_BYTES } from './gate-answer.ts'

/** sysexits.h EX_TEMPFAIL: the script itself says that it could not ask. */
const COULD_NOT_ASK = 75
/** What shells end with when a command of theirs cannot be run: that says nothing of what the script asks for. */
const NOT_RUN: readonly number[] = [126, 127]

/** Runs a program of the verified tree; its exit code is the answer. The tree is its working directory. */
export async function probeScript(
  system: System,
  treeDir: string,
  { path, arguments: words }: Extract<GateProbe, { kind: 'script' }>,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  const { ending, stdout, stderr } = await system.run(join(treeDir, path), words, {
    deadlineMs,
    signal,
    cwd: treeDir,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  const output = stderr === '' ? stdout : `${stdout}${stderr}`
  const finding = (verdict: Finding['verdict'], reason: string) => ({ verdict, reason, output })
  switch (ending.kind) {
    case 'exited':
      if (ending.exitCode === 0) return finding('healthy', `${path} ended with 0`)
      if (ending.exitCode === COULD_NOT_ASK)
        return finding('unavailable', `${path} could not ask (exit code 75)`)
      if (NOT_RUN.includes(ending.exitCode)) {
        return finding('unavailable', `a command in ${path} could not be run (exit code ${ending.exitCode})`)
      }
      return finding('unhealthy', describeEnding(path, ending))
    case 'signalled':
    case 'timed-out':
      return finding('unhealthy', describeEnding(path, ending))
    case 'not-found':
      return finding('unavailable', `${path} is no executable file of the fleet directory`)
    case 'not-started':
    case 'cancelled':
      return finding('unavailable', describeEnding(path, ending))
  }
}
