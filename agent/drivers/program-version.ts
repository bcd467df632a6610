import type { System } from '../system/system.ts'
import { findProgram, type Programs, runProgram } from './run-program.ts'

/** The first call reads a hundred megabytes from the disk; one that takes longer is asked again, when these are in memory. */
const CALL_MS = 20_000

/** What a program file said last, by machine and path. */
const remembered = new WeakMap<System, Map<string, { readonly file: string; readonly version: string }>>()

/** How a program says its version: the words that ask for it, and the pattern whose first group it is. */
export interface VersionQuestion {
  readonly args: readonly string[]
  readonly pattern: RegExp
}

/**
 * The version that a program of the cluster says it has; undefined: it says none. The same file is asked once: a server is asked
 * for its state again and again, and these programs take a tenth of a second of a processor to start.
 */
export async function programVersion(
  programs: Programs,
  name: string,
  { args, pattern }: VersionQuestion,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const path = await findProgram(programs, name)
  // Without a folder it is whatever PATH gives, now this file and then that.
  const reading = path.includes('/') ? await programs.system.stat(path) : undefined
  const file =
    reading?.kind === 'stat' ? `${reading.file} ${reading.sizeBytes} ${reading.modifiedMs}` : undefined
  const known = memoryOf(programs.system).get(path)
  if (known !== undefined && known.file === file) return known.version
  const said = await runProgram(programs, name, { args, deadlineMs: CALL_MS, signal })
  const version = said.kind === 'done' ? pattern.exec(said.value.stdout)?.[1] : undefined
  // What it could not say now it may say the next time.
  if (version !== undefined && file !== undefined) memoryOf(programs.system).set(path, { file, version })
  return version
}

function memoryOf(system: System): Map<string, { readonly file: string; readonly version: string }> {
  const known = remembered.get(system) ?? new Map()
  remembered.set(system, known)
  return known
}
