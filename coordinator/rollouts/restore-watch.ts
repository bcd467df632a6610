import type { Kysely, Transaction } from 'kysely'
import { z } from 'zod'
import { forgetEmptyDisks } from '../clusters/record-store.ts'
import type { RolloutClaim } from '../operations/node-claims.ts'
import { eventHash, newestEventAt, recordEvent } from '../store/events.ts'
import { readTexts } from '../store/json.ts'
import { readMeta, writeMeta } from '../store/meta.ts'
import { findOperations, prunedBeforeMs } from '../store/operations.ts'
import { eventRange } from '../store/retention.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { acceptLostRollouts, noteLostRollout } from './lost-rollouts.ts'
import { isLost, type SaidAtDoor, signsOf, textOfSign } from './restore-signs.ts'

const KEY = 'older_than_nodes'
const ACCEPTED_KEY = 'accepted_revision'
const ACCEPTED_EVENT_KEY = 'accepted_event'
const LOST_HEAD_KEY = 'lost_head'
/** Stands in the store of a backup once it was checked to be put in place: so it cannot be in place without it. */
export const RESTORED_KEY = 'restored_copy'
/** Lines of evidence that are kept; one is enough to stop, the others tell how much is missing. */
const MOST_LINES = 100
/** So far ahead the record of events follows a node's word. A node that makes links up moves it on, and nothing else. */
const MOST_AHEAD = 1_000_000
/** Links that were found in the record and are not looked up again: mostly all machines were shown the same. */
const MOST_HEADS = 64

const restoredSchema = z.strictObject({
  /** When the backup was made. */
  made: z.iso.datetime(),
  /** It stands in the record of events. */
  told: z.boolean(),
})

/** What a machine said at the door, and as whom it is known. */
export interface Greeting extends SaidAtDoor {
  readonly who: string
  /** As the machine's row has it; null: from before it was kept. */
  readonly known: number | null
  readonly newestRevision: number
}

/** What a transaction wrote; to be handed to `took` once it is committed. */
export interface Noted {
  readonly lines: readonly string[]
  readonly lostHead: number
  readonly atMs: number
}

/**
 * Watches for what shows that the store was set back: nodes tell of what a coordinator committed and is not on record, or a backup was put
 * in its place. While there is any of it nothing is granted, until an operator has looked.
 */
export class RestoreWatch {
  readonly #store: Store
  readonly #heads = new Map<string, true>()
  #lines: readonly string[]
  /** When the backup was made that was put in place; undefined: none was, or an operator has looked. */
  #restored: string | undefined
  /** Revisions up to this one an operator has accepted as lost. */
  #accepted: number
  /** The event by which an operator last accepted what is lost. */
  #acceptedEvent: number
  /** The newest event that any node was shown and that is not here. */
  #lostHead: number
  /** Since when nothing is granted; undefined: nothing is in the way. */
  #sinceMs: number | undefined

  private constructor(
    store: Store,
    from: {
      readonly lines: readonly string[]
      readonly restored: string | undefined
      readonly accepted: number
      readonly acceptedEvent: number
      readonly lostHead: number
      readonly sinceMs: number | undefined
    },
  ) {
    this.#store = store
    this.#lines = from.lines
    this.#restored = from.restored
    this.#accepted = from.accepted
    this.#acceptedEvent = from.acceptedEvent
    this.#lostHead = from.lostHead
    this.#sinceMs = from.sinceMs
  }

  static async load(store: Store, now: Date): Promise<RestoreWatch> {
    const { db } = store
    const restored = await readRestored(db)
    if (restored && !restored.told) {
      await store.transact(async tx => {
        await writeMeta(tx, RESTORED_KEY, JSON.stringify({ ...restored, told: true }))
        const reason = `the backup of ${restored.made} was put in place, and nothing is granted until an operator has looked`
        await recordEvent(tx, { at: now, class: 'store-restored', reason, actor: 'coordinator' })
      })
    }
    const lines = await readLines(db)
    const told = [
      ...(restored === undefined ? [] : [await newestEventAt(db, ['store-restored'])]),
      // What came in while somebody accepted the rest stands from then on.
      ...(lines.length === 0 ? [] : [await newestEventAt(db, ['store-older', 'restore-accepted'])]),
    ]
    return new RestoreWatch(store, {
      // Events that were deleted for their age leave the start of this process.
      sinceMs: told.length === 0 ? undefined : Math.min(...told.map(at => at ?? now.getTime())),
      lines,
      restored: restored?.made,
      accepted: Number((await readMeta(db, ACCEPTED_KEY)) ?? 0),
      acceptedEvent: Number((await readMeta(db, ACCEPTED_EVENT_KEY)) ?? 0),
      lostHead: Number((await readMeta(db, LOST_HEAD_KEY)) ?? 0),
    })
  }

  /** Since when nothing is granted, by the clock of whoever first said so; undefined: nothing is in the way. */
  haltedSinceMs(): number | undefined {
    return this.#sinceMs
  }

  /** Why nothing is granted; undefined: nothing is in the way. */
  halted(): string | undefined {
    const [first] = this.#lines
    const more = this.#lines.length - 1
    const told = first === undefined ? '' : `${first}${more > 0 ? ` and ${more} more` : ''}`
    const cure = 'look, then `muster rollout accept`'
    if (this.#restored !== undefined) {
      const missing =
        told === '' ? 'what was done since is not in it' : `it is older than what nodes report: ${told}`
      return `this store was restored from the backup of ${this.#restored}, and ${missing}; ${cure}`
    }
    return told === '' ? undefined : `this store is older than what nodes report: ${told}; ${cure}`
  }

  /**
   * Judges what a machine says at the door, in the transaction that takes it down. Where nothing is new it costs next to nothing: every
   * session asks. What it finds counts for nobody before `took`, and the machine may do nothing before that.
   */
  async hello(tx: Transaction<Database>, greeting: Greeting, now: Date): Promise<Noted> {
    const { who, known, newestRevision, head, untold } = greeting
    const isKnownHead = head === undefined || this.#heads.has(`${head.id} ${head.hash}`)
    const hashThere = isKnownHead ? head?.hash : await eventHash(tx, head.id)
    if (head && hashThere === head.hash) this.#remember(`${head.id} ${head.hash}`)
    const operations = await onRecord(tx, untold)
    const signs = signsOf(greeting, {
      newestRevision,
      acceptedRevision: this.#accepted,
      acknowledged: known ?? undefined,
      events: head === undefined || hashThere === head.hash ? undefined : await eventRange(tx),
      hashThere,
      acceptedEvent: this.#acceptedEvent,
      operations,
      prunedBeforeMs: operations.size < untold.length ? await prunedBeforeMs(tx) : 0,
    })
    const atMs = now.getTime()
    if (signs.length === 0) return { lines: [], lostHead: 0, atMs }
    const lost = signs.map(sign =>
      sign.kind === 'head' && sign.id - sign.newest <= MOST_AHEAD ? sign.id : 0,
    )
    const lostHead = Math.max(this.#lostHead, ...lost)
    if (lostHead > this.#lostHead) await writeMeta(tx, LOST_HEAD_KEY, String(lostHead))
    const lines = await this.#write(
      tx,
      signs.map(sign => textOfSign(who, sign)),
      now,
    )
    return { lines, lostHead, atMs }
  }

  /** What `hello` wrote is committed. */
  took({ lines, lostHead, atMs }: Noted): void {
    this.#add(lines, atMs)
    this.#lostHead = Math.max(this.#lostHead, lostHead)
  }

  /** A node told of an operation that a coordinator must have ordered and that is not on record. */
  async sawOperation(
    who: string,
    operation: { readonly id: string; readonly what: string; readonly startedMs: number },
    now: Date,
  ): Promise<void> {
    const { id, what, startedMs } = operation
    const known = { operations: new Set<string>(), prunedBeforeMs: await prunedBeforeMs(this.#store.db) }
    if (!isLost(id, startedMs, known)) return
    // In force before it is written: what is granted meanwhile would be granted by a store that is known to be old.
    const line = `${who} tells of operation ${id} (${what}), which is not on record`
    this.#add([line], now.getTime())
    await this.#store.transact(tx => this.#write(tx, [line], now))
  }

  /** A node told of the rollout by which it was given an operation that is not on record. */
  async sawRollout(who: string, claim: RolloutClaim, now: Date): Promise<void> {
    await this.#store.transact(tx => noteLostRollout(tx, claim, who, now))
  }

  /** An operator has looked: says what was accepted. Nothing: there was nothing. */
  async accept(actor: string, why: string, now: Date): Promise<readonly string[]> {
    const lines = this.#lines
    const restored = this.#restored
    const highest = lines.reduce((most, line) => {
      const revision = Number(/accepted revision ([0-9]+)/.exec(line)?.[1] ?? 0)
      return Math.max(most, revision)
    }, this.#accepted)
    const { accepted, event } = await this.#store.transact(async tx => {
      const copy = restored === undefined ? [] : [`this store is the backup of ${restored}`]
      const all = [...copy, ...lines, ...(await acceptLostRollouts(tx))]
      if (all.length === 0) return { accepted: all, event: this.#acceptedEvent }
      const since = (await readLines(tx)).filter(line => !lines.includes(line))
      await writeMeta(tx, KEY, JSON.stringify(since))
      await writeMeta(tx, RESTORED_KEY, '')
      await writeMeta(tx, ACCEPTED_KEY, String(highest))
      await forgetEmptyDisks(tx)
      const reason = `${all.length} things that nodes report and the store lacks were accepted: ${why}`
      // Past all links that nodes were shown of what is lost: whatever link of before comes back later, it is known to be of that.
      const event = await recordEvent(
        tx,
        { at: now, class: 'restore-accepted', reason, actor },
        { after: this.#lostHead },
      )
      await writeMeta(tx, ACCEPTED_EVENT_KEY, String(event))
      return { accepted: all, event }
    })
    this.#lines = this.#lines.filter(line => !lines.includes(line))
    this.#restored = undefined
    // What came in meanwhile begins anew.
    this.#sinceMs = this.#lines.length === 0 ? undefined : now.getTime()
    this.#accepted = highest
    this.#acceptedEvent = event
    return accepted
  }

  #add(lines: readonly string[], atMs: number): void {
    if (lines.length > 0) this.#sinceMs ??= atMs
    this.#lines = merged(this.#lines, lines)
  }

  #remember(head: string): void {
    if (this.#heads.size >= MOST_HEADS) this.#heads.clear()
    this.#heads.set(head, true)
  }

  /** Adds lines to those that are kept; says all. Who comes first is told in the events. */
  async #write(tx: Transaction<Database>, added: readonly string[], now: Date): Promise<readonly string[]> {
    const before = await readLines(tx)
    const lines = merged(before, added)
    if (lines === before) return before
    await writeMeta(tx, KEY, JSON.stringify(lines))
    if (before.length === 0) {
      const reason = `the store is older than what nodes report, and nothing is granted: ${lines[0] ?? ''}`
      await recordEvent(tx, { at: now, class: 'store-older', reason, actor: 'coordinator' })
    }
    return lines
  }
}

/** The same list: nothing is new. An operation is named once, however it was heard of. */
function merged(lines: readonly string[], added: readonly string[]): readonly string[] {
  const operation = (line: string) => / tells of operation ([^ ,]+)/.exec(line)?.[1]
  let all = lines
  for (const line of added) {
    const id = operation(line)
    const isThere = all.some(one => one === line || (id !== undefined && operation(one) === id))
    if (!isThere && all.length < MOST_LINES) all = [...all, line]
  }
  return all
}

async function readLines(db: Kysely<Database>): Promise<readonly string[]> {
  const text = await readMeta(db, KEY)
  return text === undefined ? [] : readTexts(text)
}

async function readRestored(db: Kysely<Database>) {
  const text = (await readMeta(db, RESTORED_KEY)) ?? ''
  return text === '' ? undefined : restoredSchema.parse(JSON.parse(text))
}

/** What a store says of itself that is a backup and is put in place. */
export function restoredMark(made: string): string {
  return JSON.stringify({ made, told: false } satisfies z.output<typeof restoredSchema>)
}

async function onRecord(
  tx: Transaction<Database>,
  untold: SaidAtDoor['untold'],
): Promise<ReadonlySet<string>> {
  if (untold.length === 0) return new Set()
  const rows = await findOperations(
    tx,
    untold.map(({ id }) => id),
  )
  return new Set(rows.map(({ id }) => id))
}
