import type { RolloutClaim } from '../operations/node-claims.ts'
import { recordEvent } from '../store/events.ts'
import { readTexts } from '../store/json.ts'
import { readMeta, writeMeta } from '../store/meta.ts'
import type { Store } from '../store/store.ts'
import { acceptLostRollouts, noteLostRollout } from './lost-rollouts.ts'

const KEY = 'older_than_nodes'
const ACCEPTED_KEY = 'accepted_revision'
/** Lines of evidence that are kept; one is enough to stop, the others tell how much is missing. */
const MOST_LINES = 100

/**
 * Watches for what a store that is older than the fleet shows: nodes tell of revisions and operations that are not on record. While there
 * is any of it nothing is granted, until an operator has looked.
 */
export class RestoreWatch {
  readonly #store: Store
  #lines: readonly string[]
  /** Revisions up to this one an operator has accepted as lost. */
  #accepted: number

  private constructor(store: Store, lines: readonly string[], accepted: number) {
    this.#store = store
    this.#lines = lines
    this.#accepted = accepted
  }

  static async load(store: Store): Promise<RestoreWatch> {
    const lines = await readMeta(store.db, KEY)
    const accepted = await readMeta(store.db, ACCEPTED_KEY)
    return new RestoreWatch(store, lines === undefined ? [] : readTexts(lines), Number(accepted ?? 0))
  }

  /** Why nothing is granted; undefined: nothing is in the way. */
  halted(): string | undefined {
    const [first] = this.#lines
    if (first === undefined) return undefined
    const more = this.#lines.length - 1
    return `this store is older than what nodes report: ${first}${more > 0 ? ` and ${more} more` : ''}; look, then \`muster rollout accept\``
  }

  /** A node said which revision it accepted. Cheap where nothing is new: it is asked at every session's start. */
  async sawRevision(who: string, revision: number, newest: number, now: Date): Promise<void> {
    if (revision <= newest || revision <= this.#accepted) return
    const here = newest === 0 ? 'no revision is on record here' : `the newest here is ${newest}`
    await this.#add(`${who} accepted revision ${revision}, ${here}`, now)
  }

  /** A node told of an operation that a coordinator must have ordered and that is not on record. */
  async sawOperation(who: string, operation: string, what: string, now: Date): Promise<void> {
    // What somebody ordered on the machine itself is on record nowhere else.
    if (operation.startsWith('local-')) return
    await this.#add(`${who} tells of operation ${operation} (${what}), which is not on record`, now)
  }

  /** A node told of the rollout by which it was given an operation that is not on record. */
  async sawRollout(who: string, claim: RolloutClaim, now: Date): Promise<void> {
    await this.#store.transact(tx => noteLostRollout(tx, claim, who, now))
  }

  /** An operator has looked: says what was accepted. Nothing: there was nothing. */
  async accept(actor: string, why: string, now: Date): Promise<readonly string[]> {
    const lines = this.#lines
    const highest = lines.reduce((most, line) => {
      const revision = Number(/accepted revision ([0-9]+)/.exec(line)?.[1] ?? 0)
      return Math.max(most, revision)
    }, this.#accepted)
    const accepted = await this.#store.transact(async tx => {
      const all = [...lines, ...(await acceptLostRollouts(tx))]
      if (all.length === 0) return all
      await writeMeta(tx, KEY, '[]')
      await writeMeta(tx, ACCEPTED_KEY, String(highest))
      await recordEvent(tx, {
        at: now,
        class: 'restore-accepted',
        reason: `${all.length} things that nodes report and the store lacks were accepted: ${why}`,
        actor,
      })
      return all
    })
    this.#lines = []
    this.#accepted = highest
    return accepted
  }

  async #add(line: string, now: Date): Promise<void> {
    if (this.#lines.includes(line) || this.#lines.length >= MOST_LINES) return
    const isFirst = this.#lines.length === 0
    this.#lines = [...this.#lines, line]
    const lines = this.#lines
    await this.#store.transact(async tx => {
      await writeMeta(tx, KEY, JSON.stringify(lines))
      if (!isFirst) return
      const reason = `the store is older than what nodes report, and nothing is granted: ${line}`
      await recordEvent(tx, { at: now, class: 'store-older', reason, actor: 'coordinator' })
    })
  }
}
