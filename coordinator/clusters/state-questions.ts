import { randomInt } from 'node:crypto'
import { randomId } from '../../shared/ids.ts'

/** A machine that has so many questions to answer is asked nothing more: whatever it answers next counts, however long it takes. */
const MOST_OPEN = 4
/** An answer that takes longer is of no use: it would be old before it came. */
const LONGEST_MS = 60_000

interface Asked {
  readonly id: string
  readonly atMs: number
}

/**
 * Which machine was asked for its state, and when: by that an answer is dated. An answer to anything else, such as to a
 * question of the process before this one, says nothing.
 */
export class StateQuestions {
  readonly #open = new Map<string, readonly Asked[]>()
  readonly #dueMs = new Map<string, number>()

  /**
   * Whether the machine is to be asked now; when it is, it is taken to be asked, and next in `everyMs` or so. One that is slow is waited for:
   * where each question took the place of an older one, none of its answers would ever count.
   */
  due(machine: string, everyMs: number, nowMs: number): boolean {
    if (this.#openOf(machine, nowMs).length >= MOST_OPEN) return false
    const due = this.#dueMs.get(machine)
    const next = nowMs + everyMs * ((80 + randomInt(41)) / 100)
    if (due !== undefined && due > nowMs) {
      // What is under way since makes it due earlier, never later.
      if (next < due) this.#dueMs.set(machine, next)
      return false
    }
    this.#dueMs.set(machine, next)
    return true
  }

  /** Asks at the next look, whenever it was asked last. */
  hurry(machine: string): void {
    this.#dueMs.delete(machine)
  }

  /** Whether something was asked after that time and is not answered yet. */
  awaits(machine: string, sinceMs: number): boolean {
    return (this.#open.get(machine)?.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) > sinceMs
  }

  /** The id of a new question, to a machine that may be asked (`due`). */
  ask(machine: string, nowMs: number): string {
    const id = randomId()
    this.#open.set(machine, [...this.#openOf(machine, nowMs), { id, atMs: nowMs }])
    return id
  }

  #openOf(machine: string, nowMs: number): readonly Asked[] {
    return (this.#open.get(machine) ?? []).filter(({ atMs }) => nowMs - atMs < LONGEST_MS)
  }

  /** When the question was sent that this answers; undefined: it answers none. Each is answered once. */
  answered(machine: string, id: string): number | undefined {
    const open = this.#open.get(machine) ?? []
    const asked = open.find(each => each.id === id)
    // What was asked before it is answered too: a later answer to it would be older.
    if (asked) this.#open.set(machine, open.slice(open.indexOf(asked) + 1))
    return asked?.atMs
  }

  forget(machine: string): void {
    this.#open.delete(machine)
    this.#dueMs.delete(machine)
  }
}
