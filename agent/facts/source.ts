import { basename } from 'node:path'
import { DeadlineError, withDeadline } from '../../shared/lifecycle.ts'
import { describeEnding, type Ending, type System } from '../system/system.ts'
import { cleanText } from './clean-values.ts'

/**
 * Where one group of facts comes from. Missing files are nothing, silently: most machines lack most of them. What is
 * there and cannot be read, and tools that are missing or fail, become warnings that name them.
 */
export interface Source {
  readonly system: System
  warn(text: string): void
  /** The text of a small file; undefined when it is missing, unreadable or longer than the bound. */
  text(
    path: string,
    options?: { maxBytes?: number; expected?: readonly string[] },
  ): Promise<string | undefined>
  bytes(path: string, maxBytes: number): Promise<Buffer | undefined>
  link(path: string): Promise<string | undefined>
  /** The last part of a link's target, such as a driver's name. */
  linkName(path: string): Promise<string | undefined>
  names(path: string): Promise<readonly string[]>
  /** Whether a path is there; undefined when that cannot be told. */
  has(path: string): Promise<boolean | undefined>
  /** What a tool prints; undefined with a warning when it is missing, fails or prints too much. */
  output(command: string, args: readonly string[], options?: OutputOptions): Promise<string | undefined>
}

export interface OutputOptions {
  readonly accept?: (ending: Ending) => boolean
  readonly maxBytes?: number
}

export interface SourceConfig {
  readonly system: System
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
}

const MAX_FILE_BYTES = 4 * 1024
const MAX_OUTPUT_BYTES = 1024 * 1024

/** Runs one collector within its deadline. Whatever it throws becomes a warning, never an exception. */
export async function collectFrom<T>(
  name: string,
  { system, deadlineMs, signal }: SourceConfig,
  collector: (source: Source) => Promise<T>,
): Promise<{ readonly facts: T | undefined; readonly warnings: readonly string[] }> {
  const warnings: string[] = []
  let open = true
  const warn = (text: string) => {
    if (open) warnings.push(cleanText(text) ?? name) // a collector that outlived its deadline is no longer heard
  }
  try {
    const facts = await withDeadline(deadlineMs, signal, signalOfSource =>
      collector(createSource(system, deadlineMs, signalOfSource, warn)),
    )
    return { facts, warnings }
  } catch (error) {
    if (error instanceof DeadlineError) warn(`${name}: ${error.message}`)
    else warn(`${name}: ${error instanceof Error ? error.message : String(error)}`)
    return { facts: undefined, warnings }
  } finally {
    open = false
  }
}

function createSource(
  system: System,
  deadlineMs: number,
  signal: AbortSignal,
  warn: (text: string) => void,
): Source {
  const unreadable = (path: string, code: string, expected: readonly string[] = []) => {
    if (!expected.includes(code)) warn(`${path}: unreadable (${code})`)
    return undefined
  }
  const bytes = async (path: string, maxBytes: number, expected?: readonly string[]) => {
    const reading = await system.readFile(path, maxBytes)
    if (reading.kind === 'missing') return undefined
    if (reading.kind === 'unreadable') return unreadable(path, reading.code, expected)
    if (!reading.truncated) return reading.bytes
    warn(`${path}: longer than ${maxBytes} bytes`)
    return undefined
  }
  const link = async (path: string) => {
    const reading = await system.readLink(path)
    if (reading.kind === 'unreadable') return unreadable(path, reading.code)
    return reading.kind === 'link' ? reading.target : undefined
  }
  return {
    system,
    warn,
    bytes: (path, maxBytes) => bytes(path, maxBytes),
    text: async (path, { maxBytes = MAX_FILE_BYTES, expected } = {}) =>
      (await bytes(path, maxBytes, expected))?.toString('utf8'),
    link,
    linkName: async path => {
      const target = await link(path)
      return target === undefined ? undefined : cleanText(basename(target))
    },
    names: async path => {
      const reading = await system.listDir(path)
      if (reading.kind === 'unreadable') unreadable(path, reading.code)
      return reading.kind === 'dir' ? reading.names : []
    },
    has: async path => {
      const existence = await system.exists(path)
      if (existence.kind === 'unreadable') return unreadable(path, existence.code)
      return existence.kind === 'present'
    },
    output: async (command, args, { accept = isZero, maxBytes = MAX_OUTPUT_BYTES } = {}) => {
      const result = await system.run(command, args, { deadlineMs, signal, maxOutputBytes: maxBytes })
      if (!accept(result.ending)) {
        const said = cleanText(result.stderr, 120)
        warn(describeEnding(command, result.ending) + (said === undefined ? '' : `: ${said}`))
        return undefined
      }
      if (!result.truncated) return result.stdout
      warn(`${command}: printed more than ${maxBytes} bytes`)
      return undefined
    },
  }
}

function isZero(ending: Ending): boolean {
  return ending.kind === 'exited' && ending.exitCode === 0
}
