import type { Writable } from 'node:stream'
import { parseArgs } from 'node:util'
import { toBinary } from '@bufbuild/protobuf'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { createMadeUpSystem } from '../system/made-up-system.ts'
import { createRealSystem } from '../system/real-system.ts'
import { collectFacts } from './collect-facts.ts'

export interface ChildIo {
  /** `facts` or `rule`, then the options. */
  readonly argv: readonly string[]
  /** PATH for the tools. */
  readonly path: string
  readonly stdin: AsyncIterable<Uint8Array | string>
  readonly stdout: Writable
  readonly stderr: Writable
  readonly signal?: AbortSignal | undefined
}

const MAX_QUESTION_BYTES = 16 * 1024
const SOURCE_DEADLINE_MS = 8_000

/**
 * The short-lived child that reads facts, so that the idle agent never holds what that takes.
 *
 * `facts [--root DIR] [--source-deadline-ms N]` prints a serialised Facts. `rule`, with the same options, reads a CEL
 * rule from standard input, evaluates it over facts read afresh and prints a verdict as JSON. Returns the exit code.
 */
export async function runFactsChild(io: ChildIo): Promise<number> {
  try {
    const { values, positionals } = parseArgs({
      args: [...io.argv],
      allowPositionals: true,
      options: { root: { type: 'string' }, 'source-deadline-ms': { type: 'string' } },
    })
    const deadlineMs = Number(values['source-deadline-ms'] ?? SOURCE_DEADLINE_MS)
    if (!Number.isSafeInteger(deadlineMs) || deadlineMs < 1) throw new Error('source-deadline-ms: no time')
    const read = () => readFacts(io, values.root, deadlineMs)
    switch (positionals.join(' ')) {
      case 'facts':
        await write(io.stdout, toBinary(FactsSchema, await read()))
        return 0
      case 'rule': {
        const rule = await readAll(io.stdin)
        const { evaluateRule } = await import('./evaluate-rule.ts')
        await write(io.stdout, Buffer.from(JSON.stringify(evaluateRule(rule, await read()))))
        return 0
      }
      default:
        throw new Error('say facts or rule')
    }
  } catch (error) {
    await write(io.stderr, Buffer.from(`${error instanceof Error ? error.message : String(error)}\n`))
    return 2
  }
}

async function readFacts(
  { path, signal }: ChildIo,
  root: string | undefined,
  deadlineMs: number,
): Promise<Facts> {
  const common = { deadlineMs, now: new Date(), signal }
  if (root !== undefined) return collectFacts(createMadeUpSystem(root), { ...common, simulated: true })
  return collectFacts(createRealSystem({ root: '/', path }), {
    ...common,
    simulated: false,
    describeCpu: async () => {
      const { describeCpuBySystemInformation } = await import('./system-information.ts')
      return describeCpuBySystemInformation()
    },
  })
}

async function readAll(input: AsyncIterable<Uint8Array | string>): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of input) {
    chunks.push(Buffer.from(chunk))
    length += chunk.length
    if (length > MAX_QUESTION_BYTES) throw new Error(`the rule is longer than ${MAX_QUESTION_BYTES} bytes`)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function write(output: Writable, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => output.write(bytes, error => (error ? reject(error) : resolve())))
}
