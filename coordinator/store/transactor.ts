import type { ControlledTransaction, Kysely, Transaction } from 'kysely'
import { pause } from '../../shared/lifecycle.ts'
import type { Database } from './tables.ts'

/** Works of one commit: each takes a millisecond or so, and nothing else runs meanwhile. */
const MOST_TOGETHER = 32

/**
 * So long works that may share a commit wait for others, while they are few: a commit holds the whole process up until the
 * disk has it, so that fewer of them make a crowd of machines faster, and one machine not noticeably slower.
 */
const GATHER_MS = 6
const FEW = 16

const MISUSE =
  'store used inside its own transaction, or something else waited for there: use tx and nothing else'

/** A transaction that was asked for. */
interface Waiting {
  /** Runs the work and gives what settles its caller once the commit is durable, or was not. */
  readonly run: (tx: Transaction<Database>) => Promise<Settle>
  readonly reject: (error: unknown) => void
  /** What it is about; undefined: it gets a commit of its own. */
  readonly key: string | undefined
  /** The work that was running when this was asked for, which may be the one that waits for it. */
  readonly askedBy: Waiting | undefined
}

type Settle = () => void

/** A work that did not come to its end by itself. */
class StuckWork extends Error {
  override readonly name = 'StuckWork'
  readonly work: Waiting

  constructor(work: Waiting) {
    super(MISUSE)
    this.work = work
  }
}

/**
 * Runs transactions one after the other over a store whose statements do not wait. Those that allow it share a commit,
 * and so the wait for the disk, with others that were asked for at the same time.
 * INVARIANTS: each work is all there or not at all, whatever becomes of the others beside it; its caller hears of it after
 * the commit, and before the next commit begins; a work that waits for anything but its own statements is refused and
 * leaves nothing. The last needs no book-keeping of promises: statements that do not wait run to their end before the
 * event loop turns, so a work that is not done by then waits for something else, mostly for the very store it keeps.
 */
export class Transactor {
  readonly #db: Kysely<Database>
  readonly #waiting: Waiting[] = []
  #isRunning = false
  #current: Waiting | undefined

  constructor(db: Kysely<Database>) {
    this.#db = db
  }

  /**
   * With a key the work may share its commit with works of other keys. Two of one key never do: what the first leaves in
   * memory once it is committed, the second finds there.
   */
  transact<T>(work: (tx: Transaction<Database>) => Promise<T>, key?: string): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const run = async (tx: Transaction<Database>): Promise<Settle> => {
        const result = await work(tx)
        return () => resolve(result)
      }
      this.#waiting.push({ run, reject, key, askedBy: this.#current })
      if (this.#isRunning) return
      this.#isRunning = true
      // What came in with the same turn of the event loop is heard first, so that it goes into the same commit.
      setImmediate(() => void this.#runAll())
    })
  }

  async #runAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      if (this.#mayGather()) await pause(GATHER_MS)
      await this.#runGroup(this.#nextGroup())
      // Callers take down what was committed, and what came in meanwhile gets its turn to join the next.
      await new Promise(resolve => setImmediate(resolve))
    }
    this.#isRunning = false
  }

  #mayGather(): boolean {
    return this.#waiting.length < FEW && this.#waiting.every(({ key }) => key !== undefined)
  }

  /** The longest run of works, in the order they came, that may share a commit. */
  #nextGroup(): readonly Waiting[] {
    const keys = new Set<string>()
    for (const { key } of this.#waiting.slice(0, MOST_TOGETHER)) {
      if (key === undefined || keys.has(key)) break
      keys.add(key)
    }
    return this.#waiting.splice(0, Math.max(1, keys.size))
  }

  async #runGroup(group: readonly Waiting[]): Promise<void> {
    try {
      const settled = await this.#commit(group)
      for (const settle of settled) settle()
    } catch (error) {
      if (!(error instanceof StuckWork)) {
        for (const { reject } of group) reject(error)
        return
      }
      // Its transaction is over, so whatever it still does is refused. What it asked for would run after all: refused too.
      error.work.reject(error)
      for (const [index, waiting] of [...this.#waiting.entries()].toReversed()) {
        if (waiting.askedBy !== error.work) continue
        this.#waiting.splice(index, 1)
        waiting.reject(error)
      }
      this.#waiting.unshift(...group.filter(waiting => waiting !== error.work))
    }
  }

  /** Gives what tells the callers. Throws when nothing of the group was written. */
  async #commit(group: readonly Waiting[]): Promise<readonly Settle[]> {
    const trx = await this.#db.startTransaction().execute()
    try {
      const settled: Settle[] = []
      for (const waiting of group) {
        settled.push(
          group.length === 1 ? await this.#runOne(waiting, trx) : await this.#runSaved(waiting, trx),
        )
      }
      await trx.commit().execute()
      return settled
    } catch (error) {
      // An error that already ended the transaction, as a full disk does, must not be hidden by the next.
      await trx
        .rollback()
        .execute()
        .catch(() => {})
      throw error
    }
  }

  /** One of several: when it fails, the others go on as if it had not been. */
  async #runSaved(waiting: Waiting, trx: ControlledTransaction<Database>): Promise<Settle> {
    const saved = await trx.savepoint('work').execute()
    try {
      const settle = await this.#runOne(waiting, trx)
      await saved.releaseSavepoint('work').execute()
      return settle
    } catch (error) {
      if (error instanceof StuckWork) throw error
      await saved.rollbackToSavepoint('work').execute()
      await saved.releaseSavepoint('work').execute()
      return () => waiting.reject(error)
    }
  }

  async #runOne(waiting: Waiting, trx: ControlledTransaction<Database>): Promise<Settle> {
    let watch: NodeJS.Immediate | undefined
    const stuck = new Promise<never>((_, reject) => {
      watch = setImmediate(() => reject(new StuckWork(waiting)))
    })
    this.#current = waiting
    try {
      return await Promise.race([waiting.run(trx), stuck])
    } finally {
      clearImmediate(watch)
      this.#current = undefined
    }
  }
}
