import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { makePrivateDirectory, readFileIfThere, syncDirectory } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { decodeRecord, encodeRecord, type JournalRecord, type NewRecord } from './journal-record.ts'

/** The journal has damage in its middle, which no power cut makes: nobody may guess what stood there. */
export class JournalDamagedError extends Error {
  override readonly name = 'JournalDamagedError'
}

/** A file that holds more than this is rewritten at the next start with what is still needed. */
const COMPACT_BYTES = 1024 * 1024

/**
 * The node's record of its operations: one JSON line each, on disk (fdatasync) when `append` returns.
 * INVARIANTS: sequences grow by one and never repeat, also over compaction; a torn last line, which is what a power cut
 * leaves, was never acted on and is cut off; damage anywhere else is an error.
 */
export class Journal implements AsyncDisposable {
  readonly #path: string
  readonly #clock: Clock
  #handle: FileHandle
  #records: JournalRecord[]
  #sequence: number
  /** Appends run one after the other. */
  #tail: Promise<void> = Promise.resolve()

  private constructor(path: string, clock: Clock, handle: FileHandle, records: JournalRecord[]) {
    this.#path = path
    this.#clock = clock
    this.#handle = handle
    this.#records = records
    this.#sequence = records.at(-1)?.sequence ?? 0
  }

  /** Opens or makes the journal. `keep` says which operations' records survive a compaction. */
  static async open(
    stateDir: string,
    clock: Clock,
    keep: (records: readonly JournalRecord[]) => ReadonlySet<string>,
  ): Promise<Journal> {
    const path = join(stateDir, 'journal.jsonl')
    await makePrivateDirectory(stateDir)
    await rm(`${path}.new`, { force: true })
    const bytes = (await readFileIfThere(path)) ?? Buffer.alloc(0)
    const { records, goodBytes } = parseJournal(bytes, path)
    const handle = await open(path, 'a', 0o600)
    if (goodBytes < bytes.length) {
      await handle.truncate(goodBytes)
      await handle.sync()
    }
    await syncDirectory(dirname(path))
    const journal = new Journal(path, clock, handle, records)
    if (bytes.length > COMPACT_BYTES) await journal.#compact(keep(records))
    return journal
  }

  get sequence(): number {
    return this.#sequence
  }

  get records(): readonly JournalRecord[] {
    return this.#records
  }

  /** Adds a record; durable when it returns. */
  append(record: NewRecord): Promise<JournalRecord> {
    const work = this.#tail.then(async () => {
      const whole: JournalRecord = { ...record, sequence: this.#sequence + 1, at: this.#clock.now() }
      await this.#handle.appendFile(`${encodeRecord(whole)}\n`)
      await this.#handle.datasync()
      this.#sequence = whole.sequence
      this.#records.push(whole)
      return whole
    })
    this.#tail = work.then(
      () => {},
      () => {},
    )
    return work
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tail
    await this.#handle.close()
  }

  async #compact(keep: ReadonlySet<string>): Promise<void> {
    // The newest record always stays: it carries the sequence on.
    const kept = this.#records.filter(
      record => keep.has(record.operation) || record.sequence === this.#sequence,
    )
    const fresh = await open(`${this.#path}.new`, 'wx', 0o600)
    await fresh.writeFile(kept.map(record => `${encodeRecord(record)}\n`).join(''))
    await fresh.sync()
    await fresh.close()
    await rename(`${this.#path}.new`, this.#path)
    await syncDirectory(dirname(this.#path))
    await this.#handle.close()
    this.#handle = await open(this.#path, 'a', 0o600)
    this.#records = kept
  }
}

function parseJournal(bytes: Buffer, path: string): { records: JournalRecord[]; goodBytes: number } {
  const records: JournalRecord[] = []
  let start = 0
  for (let line = 1; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start)
    if (end === -1) break // no line end: torn by a power cut before its append returned
    try {
      const record = decodeRecord(bytes.subarray(start, end).toString('utf8'))
      const before = records.at(-1)?.sequence ?? 0
      if (record.sequence <= before) throw new Error(`seq: ${record.sequence} after ${before}`)
      records.push(record)
    } catch (error) {
      // The last line may be torn and yet end in a line feed, when its blocks reached the disk out of order.
      if (end === bytes.length - 1) break
      throw new JournalDamagedError(
        `${path}:${line}: ${reasonOf(error)}; the journal is damaged: move the file away only after looking at what this node runs`,
        { cause: error },
      )
    }
    start = end + 1
  }
  return { records, goodBytes: start }
}
