import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { makePrivateDirectory, readFileIfThere, syncDirectory } from '../../shared/durable-file.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { decodeRecord, encodeRecord, type JournalRecord, type NewRecord } from './journal-record.ts'

/** The journal has damage in its middle, which no power cut makes: nobody may guess what stood there. */
export class JournalDamagedError extends Error {
  override readonly name = 'JournalDamagedError'
}

/** A file that holds more than this is rewritten with what is still needed. */
const COMPACT_BYTES = 1024 * 1024
/** Room that is held for the records of what was accepted, and given up when the disk is full. */
const RESERVE_BYTES = 256 * 1024

/**
 * The node's record of its operations: one JSON line each, on disk (fdatasync) when `append` returns.
 * INVARIANTS: sequences grow by one and never repeat, also over compaction; a torn last line, which is what a power cut
 * leaves, was never acted on and is cut off; damage anywhere else is an error. What an append that failed left behind is
 * cut off before the next one; when that is not possible, no append succeeds until the agent starts anew. A compaction that
 * fails, such as on a full disk, leaves the file as it is, and fails nothing else.
 */
export class Journal implements AsyncDisposable {
  readonly #path: string
  readonly #clock: Clock
  readonly #keep: Keep
  readonly #onTrouble: (reason: string) => void
  #handle: FileHandle
  /** Length of the file's good part. */
  #bytes: number
  /** Length after the last compaction, which may not have made it small. */
  #compacted = 0
  #broken: unknown
  #records: JournalRecord[]
  #sequence: number
  /** Appends run one after the other. */
  #tail: Promise<void> = Promise.resolve()

  private constructor(
    path: string,
    clock: Clock,
    keep: Keep,
    onTrouble: (reason: string) => void,
    handle: FileHandle,
    { records, goodBytes }: ParsedJournal,
  ) {
    this.#path = path
    this.#clock = clock
    this.#keep = keep
    this.#onTrouble = onTrouble
    this.#handle = handle
    this.#bytes = goodBytes
    this.#records = records
    this.#sequence = records.at(-1)?.sequence ?? 0
  }

  /** Opens or makes the journal. `onTrouble` is told why it could not be made smaller. */
  static async open(
    stateDir: string,
    clock: Clock,
    keep: Keep,
    onTrouble: (reason: string) => void = () => {},
  ): Promise<Journal> {
    const path = join(stateDir, 'journal.jsonl')
    await makePrivateDirectory(stateDir)
    await rm(`${path}.new`, { force: true })
    const bytes = (await readFileIfThere(path)) ?? Buffer.alloc(0)
    const parsed = parseJournal(bytes, path)
    const handle = await open(path, 'a', 0o600)
    if (parsed.goodBytes < bytes.length) {
      await handle.truncate(parsed.goodBytes)
      await handle.sync()
    }
    await syncDirectory(dirname(path))
    const journal = new Journal(path, clock, keep, onTrouble, handle, parsed)
    await journal.compact()
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
    return this.#afterOthers(async () => {
      if (this.#broken !== undefined) throw this.#brokenError()
      const whole: JournalRecord = { ...record, sequence: this.#sequence + 1, at: this.#clock.now() }
      const line = Buffer.from(`${encodeRecord(whole)}\n`)
      try {
        await this.#write(line)
      } catch (error) {
        await this.#cutOff(error)
        // The room that was held is for this very moment.
        if (!hasCode(error, 'ENOSPC') || this.#broken !== undefined || !(await this.giveUpReserve()))
          throw error
        try {
          await this.#write(line)
        } catch (again) {
          await this.#cutOff(again)
          throw again
        }
      }
      this.#bytes += line.length
      this.#sequence = whole.sequence
      this.#records.push(whole)
      return whole
    })
  }

  /** Holds room for the records of an operation; throws when there is none, so that it is not taken on. */
  reserve(): Promise<void> {
    return this.#afterOthers(async () => {
      const path = this.#reservePath()
      const held = await stat(path).then(
        found => found.size,
        () => 0,
      )
      if (held >= RESERVE_BYTES) return
      const handle = await open(path, 'w', 0o600)
      try {
        await handle.writeFile(Buffer.alloc(RESERVE_BYTES, 1))
        await handle.sync()
      } catch (error) {
        await handle.truncate(0)
        throw new Error(`no room for the records of an operation: ${reasonOf(error)}`, { cause: error })
      } finally {
        await handle.close()
      }
    })
  }

  #reservePath(): string {
    return `${this.#path}.reserve`
  }

  /** Frees the room that was held; false: there was none. */
  async giveUpReserve(): Promise<boolean> {
    try {
      const handle = await open(this.#reservePath(), 'r+')
      try {
        if ((await handle.stat()).size === 0) return false
        await handle.truncate(0)
        await handle.sync()
        return true
      } finally {
        await handle.close()
      }
    } catch {
      return false // there is none
    }
  }

  async #write(line: Buffer): Promise<void> {
    await this.#handle.appendFile(line)
    await this.#handle.datasync()
  }

  /** Rewrites a file that has grown large with what is still needed, if there is room for that. */
  compact(): Promise<void> {
    return this.#afterOthers(async () => {
      if (this.#broken !== undefined || this.#bytes <= COMPACT_BYTES + this.#compacted) return
      const kept = this.#keptBy(this.#keep(this.#records))
      const bytes = Buffer.from(kept.map(record => `${encodeRecord(record)}\n`).join(''))
      let fresh: FileHandle
      try {
        fresh = await this.#replaceFile(bytes)
      } catch (error) {
        // A large journal is as good as a small one; it is tried again after the next operation.
        return this.#onTrouble(reasonOf(error))
      }
      await this.#goOnWith(fresh, kept, bytes.length)
    })
  }

  #afterOthers<T>(task: () => Promise<T>): Promise<T> {
    const work = this.#tail.then(task)
    this.#tail = work.then(
      () => {},
      () => {},
    )
    return work
  }

  /** Half a line in front of the next record would be damage in the middle. */
  async #cutOff(cause: unknown): Promise<void> {
    try {
      await this.#handle.truncate(this.#bytes)
      await this.#handle.datasync()
    } catch {
      this.#broken = cause
    }
  }

  #brokenError(): Error {
    return new Error(`${this.#path}: cannot be written since an earlier failure: ${reasonOf(this.#broken)}`, {
      cause: this.#broken,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tail
    await this.#handle.close()
  }

  #keptBy(keep: ReadonlySet<string>): JournalRecord[] {
    // The newest record always stays: it carries the sequence on.
    return this.#records.filter(record => keep.has(record.operation) || record.sequence === this.#sequence)
  }

  /** Puts a file with these bytes in the place of the journal; where that fails, the journal is as it was. */
  async #replaceFile(bytes: Buffer): Promise<FileHandle> {
    const path = `${this.#path}.new`
    await rm(path, { force: true })
    // Appended to from here on: there is no moment in which records could go to the old file.
    const fresh = await open(path, 'ax', 0o600)
    try {
      await fresh.writeFile(bytes)
      await fresh.sync()
      await rename(path, this.#path)
      return fresh
    } catch (error) {
      await fresh.close()
      // Its room is for the records that are still to come.
      await rm(path, { force: true })
      throw error
    }
  }

  async #goOnWith(fresh: FileHandle, kept: JournalRecord[], bytes: number): Promise<void> {
    const old = this.#handle
    this.#handle = fresh
    this.#bytes = bytes
    this.#compacted = bytes
    this.#records = kept
    await old.close()
    await syncDirectory(dirname(this.#path))
  }
}

/** Says which operations' records survive a compaction. */
type Keep = (records: readonly JournalRecord[]) => ReadonlySet<string>

interface ParsedJournal {
  readonly records: JournalRecord[]
  readonly goodBytes: number
}

function parseJournal(bytes: Buffer, path: string): ParsedJournal {
  const records: JournalRecord[] = []
  let start = 0
  for (let line = 1; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start)
    if (end === -1) break // no line end: torn by a power cut before its append returned
    const text = bytes.subarray(start, end).toString('utf8')
    try {
      const record = decodeRecord(text)
      const before = records.at(-1)?.sequence ?? 0
      if (record.sequence <= before) throw new Error(`seq: ${record.sequence} after ${before}`)
      records.push(record)
    } catch (error) {
      // The last line may be torn and yet end in a line feed, when its blocks reached the disk out of order. One that is whole
      // was acted on, whatever this program makes of it.
      if (end === bytes.length - 1 && !isJson(text)) break
      throw new JournalDamagedError(
        `${path}:${line}: ${reasonOf(error)}; the journal is damaged, or a newer agent wrote it: move the file away only after looking at what this node runs`,
        { cause: error },
      )
    }
    start = end + 1
  }
  return { records, goodBytes: start }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
