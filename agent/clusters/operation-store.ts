import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  makePrivateDirectory,
  readFileIfThere,
  syncDirectory,
  writeFileDurably,
} from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { type ClusterOperation, isOpen, readOperation, writeOperation } from './cluster-operation.ts'
import { isOperationId } from './decide-order.ts'

/** An operation stays known for so long after its end: longer than any secret or order of it can be of use. */
const KEEP_MS = 14 * 24 * 3_600_000
/** Beyond so many the oldest that are over go earlier, but none before its secret is worthless. */
const MAX_KEPT = 1_000
const LEAST_KEEP_MS = 24 * 3_600_000
const MAX_RECORD_BYTES = 2 * 1024 * 1024

/**
 * The operations about clusters that this node knows, a file each. INVARIANTS: what `get` says is on disk; a file that cannot
 * be read is an error at the start and never an unknown operation.
 */
export class OperationStore {
  readonly #folder: string
  readonly #operations: Map<string, ClusterOperation>

  private constructor(folder: string, operations: Map<string, ClusterOperation>) {
    this.#folder = folder
    this.#operations = operations
  }

  static async open(folder: string): Promise<OperationStore> {
    await makePrivateDirectory(folder)
    const operations = new Map<string, ClusterOperation>()
    for (const name of (await readdir(folder)).sort()) {
      const path = join(folder, name)
      // What a write left that was cut short.
      if (name.startsWith('.')) await rm(path, { force: true })
      const id = name.endsWith('.json') ? name.slice(0, -'.json'.length) : ''
      if (!isOperationId(id) || name.startsWith('.')) continue
      operations.set(id, await readRecord(path, id))
    }
    return new OperationStore(folder, operations)
  }

  get(id: string): ClusterOperation | undefined {
    return this.#operations.get(id)
  }

  all(): readonly ClusterOperation[] {
    return [...this.#operations.values()]
  }

  /** Durable when it returns. */
  async put(operation: ClusterOperation): Promise<ClusterOperation> {
    const text = writeOperation(operation)
    if (Buffer.byteLength(text) > MAX_RECORD_BYTES)
      throw new RangeError(`operation ${operation.id}: too long to be kept`)
    await writeFileDurably(this.#path(operation.id), text)
    this.#operations.set(operation.id, operation)
    return operation
  }

  /** Forgets what is over, acknowledged and old. */
  async prune(nowMs: number): Promise<void> {
    const forgotten = whatToForget(this.all(), nowMs)
    for (const id of forgotten) {
      await rm(this.#path(id), { force: true })
      this.#operations.delete(id)
    }
    if (forgotten.length > 0) await syncDirectory(this.#folder)
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.json`)
  }
}

async function readRecord(path: string, id: string): Promise<ClusterOperation> {
  const bytes = (await readFileIfThere(path)) ?? Buffer.alloc(0)
  try {
    if (bytes.length > MAX_RECORD_BYTES) throw new Error(`${bytes.length} bytes`)
    const operation = readOperation(bytes.toString('utf8'))
    if (operation.id !== id) throw new Error(`id: is ${operation.id}`)
    return operation
  } catch (error) {
    throw new Error(
      `${path}: cannot be read: ${reasonOf(error)}; move it away only after looking at what its operation left undone`,
      { cause: error },
    )
  }
}

export function whatToForget(operations: readonly ClusterOperation[], nowMs: number): readonly string[] {
  const over = operations.filter(each => !isOpen(each)).sort((a, b) => ageOf(a, nowMs) - ageOf(b, nowMs))
  const surplus = Math.max(0, operations.length - MAX_KEPT)
  return over
    .filter((each, index) => {
      const age = ageOf(each, nowMs)
      return age > KEEP_MS || (age > LEAST_KEEP_MS && index >= over.length - surplus)
    })
    .map(({ id }) => id)
}

const ageOf = ({ endedMs, acceptedMs }: ClusterOperation, nowMs: number) => nowMs - (endedMs ?? acceptedMs)
