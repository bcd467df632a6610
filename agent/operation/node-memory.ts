import { join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'

/** A system that failed on this node and is not tried again, whatever number it comes back under. */
export interface QuarantinedSystem {
  readonly storePath: string
  readonly reason: string
  readonly operation: string
  readonly revision: number
  readonly at: Date
}

/** What the node holds on to by itself. */
export interface NodeMemory {
  readonly held: { readonly reason: string; readonly since: Date } | undefined
  /** Newest first. */
  readonly quarantined: readonly QuarantinedSystem[]
}

const FILE = 'node.json'
const VERSION = 1
const MOST_QUARANTINED = 100
export const freshNodeMemory: NodeMemory = { held: undefined, quarantined: [] }

/** Reads the memory; a file that is there and cannot be read is an error, never an empty memory. */
export async function readNodeMemory(stateDir: string): Promise<NodeMemory> {
  const path = join(stateDir, FILE)
  const bytes = await readFileIfThere(path)
  if (bytes === undefined) return freshNodeMemory
  try {
    return parse(bytes.toString('utf8'))
  } catch (error) {
    throw new Error(`${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  }
}

/**
 * Durable when it returns. What failed here must be remembered on a full disk, too: then `freeRoom` gives up what was held
 * for this, and says whether there was any.
 */
export async function writeNodeMemory(
  stateDir: string,
  memory: NodeMemory,
  freeRoom: () => Promise<boolean>,
): Promise<void> {
  try {
    await write(stateDir, memory)
  } catch (error) {
    if (!hasCode(error, 'ENOSPC') || !(await freeRoom())) throw error
    await write(stateDir, memory)
  }
}

async function write(stateDir: string, { held, quarantined }: NodeMemory): Promise<void> {
  await writeFileDurably(
    join(stateDir, FILE),
    `${JSON.stringify({
      v: VERSION,
      ...(held && { held: { reason: held.reason, since: held.since.toISOString() } }),
      quarantined: quarantined.map(one => ({ ...one, at: one.at.toISOString() })),
    })}\n`,
  )
}

/** Adds a system, in the place of what was known of it; its first cause stays. */
export function quarantine(memory: NodeMemory, system: QuarantinedSystem): NodeMemory {
  if (memory.quarantined.some(({ storePath }) => storePath === system.storePath)) return memory
  return { ...memory, quarantined: [system, ...memory.quarantined].slice(0, MOST_QUARANTINED) }
}

export function findQuarantined(memory: NodeMemory, storePath: string): QuarantinedSystem | undefined {
  return memory.quarantined.find(one => one.storePath === storePath)
}

function parse(text: string): NodeMemory {
  const fields = fieldsOf(JSON.parse(text))
  if (fields.get('v') !== VERSION) throw new Error(`v: this program knows ${VERSION}`)
  const held = fields.has('held') ? fieldsOf(fields.get('held')) : undefined
  const list = fields.get('quarantined')
  if (!Array.isArray(list)) throw new Error('quarantined: must be a list')
  return {
    held: held && { reason: textOf(held, 'reason'), since: timeOf(held, 'since') },
    quarantined: list.map((item: unknown) => {
      const one = fieldsOf(item)
      const revision = one.get('revision')
      if (typeof revision !== 'number') throw new Error('revision: must be a number')
      return {
        storePath: textOf(one, 'storePath'),
        reason: textOf(one, 'reason'),
        operation: textOf(one, 'operation'),
        revision,
        at: timeOf(one, 'at'),
      }
    }),
  }
}

function fieldsOf(value: unknown): ReadonlyMap<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new Error('must be an object')
  return new Map(Object.entries(value))
}

function textOf(fields: ReadonlyMap<string, unknown>, name: string): string {
  const value = fields.get(name)
  if (typeof value !== 'string') throw new Error(`${name}: must be text`)
  return value
}

function timeOf(fields: ReadonlyMap<string, unknown>, name: string): Date {
  const at = new Date(textOf(fields, name))
  if (Number.isNaN(at.getTime())) throw new Error(`${name}: not a time`)
  return at
}
