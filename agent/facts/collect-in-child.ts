import { fromBinary } from '@bufbuild/protobuf'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { describeEnding, type RunResult, type System, succeeded } from '../system/system.ts'
import { MAX_FACTS_BYTES } from './bound-facts.ts'
import type { RuleAnswer } from './evaluate-rule.ts'
import { isObject, type JsonObject, stringAt } from './parse-json.ts'

export interface FactsChildConfig {
  /** The real machine's door; its PATH is the child's. */
  readonly system: System
  /** Program and arguments that start this same agent: process.execPath, process.execArgv and the script. */
  readonly command: readonly [string, ...string[]]
  /** A made-up root folder to read instead of this machine. */
  readonly root?: string | undefined
  /** For the whole child; each of its sources gets most of it. */
  readonly deadlineMs: number
}

/** A serialised Facts and its SHA-256. */
export interface CollectedFacts {
  readonly bytes: Uint8Array
  readonly digest: string
}

/** Reads the facts in a child of this program. Throws when the child fails; facts that are lacking are no failure. */
export async function collectFactsInChild(
  config: FactsChildConfig,
  signal?: AbortSignal,
): Promise<CollectedFacts> {
  const { stdoutBytes } = await runChild(config, 'facts', undefined, signal)
  const bytes = new Uint8Array(stdoutBytes)
  fromBinary(FactsSchema, bytes) // what is stored and sent must at least be a Facts
  return { bytes, digest: sha256Hex(bytes) }
}

/** Evaluates a rule in a child, over facts read afresh. A child that fails is an error of the rule, not a no. */
export async function evaluateRuleInChild(
  config: FactsChildConfig,
  rule: string,
  signal?: AbortSignal,
): Promise<RuleAnswer> {
  try {
    const { stdout } = await runChild(config, 'rule', rule, signal)
    return readAnswer(JSON.parse(stdout), rule)
  } catch (error) {
    return { rule, kind: 'error', reason: error instanceof Error ? error.message : String(error), values: {} }
  }
}

/** So long a tool may take; whoever waits for the others' facts waits for one that hangs as well. */
const MOST_SOURCE_MS = 24_000

async function runChild(
  { system, command, root, deadlineMs }: FactsChildConfig,
  mode: 'facts' | 'rule',
  input: string | undefined,
  signal: AbortSignal | undefined,
): Promise<RunResult> {
  const [program, ...before] = command
  const sourceDeadline = Math.max(1, Math.min(MOST_SOURCE_MS, Math.floor(deadlineMs * 0.8)))
  const options = [
    ...(root === undefined ? [] : ['--root', root]),
    '--source-deadline-ms',
    String(sourceDeadline),
  ]
  const result = await system.run(program, [...before, mode, ...options], {
    deadlineMs,
    signal,
    maxOutputBytes: MAX_FACTS_BYTES,
    ...(input === undefined ? {} : { input }),
  })
  const name = `reading of ${mode === 'facts' ? 'facts' : 'facts for a rule'}`
  if (!succeeded(result.ending)) {
    throw new Error(`${describeEnding(name, result.ending)}: ${result.stderr.trim().slice(-500)}`)
  }
  if (result.truncated) throw new Error(`${name}: more than ${MAX_FACTS_BYTES} bytes`)
  return result
}

function readAnswer(json: unknown, rule: string): RuleAnswer {
  if (!isObject(json)) throw new Error('the verdict on the rule is no object')
  const kind = stringAt(json, 'kind')
  if (json.rule !== rule || (kind !== 'match' && kind !== 'no-match' && kind !== 'error')) {
    throw new Error('the verdict is not on this rule')
  }
  const values = isObject(json.values) ? json.values : {}
  return { rule, kind, reason: stringAt(json, 'reason') ?? '', values: readValues(values) }
}

function readValues(values: JsonObject): RuleAnswer['values'] {
  const entries = (['serial', 'uuid', 'mac'] as const).flatMap(name => {
    const value = stringAt(values, name)
    return value === undefined ? [] : [[name, value] as const]
  })
  return Object.fromEntries(entries)
}
