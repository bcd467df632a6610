import type { Silence } from './plan/rollout-snapshot.ts'

/** How long a machine that is not heard of counts as one that fell silent; longer away it is merely away. */
export const SILENT_FOR_MS = 10 * 60_000

/**
 * When each machine was last connected. Kept in memory, and looked at all the time, whether rollouts are open or not: what nobody looked
 * at cannot have fallen silent.
 */
export class Presence {
  readonly #lastHere = new Map<string, number>()
  readonly #startedMs: number

  /**
   * `seen`: when machines were last heard of before this start, as the store says. Time in which no coordinator ran is taken out, for in it
   * nobody could be heard of: who was there when the last one stopped, however long ago, falls silent now if it does not come back.
   */
  constructor(seen: Iterable<readonly [machine: string, atMs: number]>, nowMs: number) {
    this.#startedMs = nowMs
    const known = [...seen]
    const stoppedMs = known.reduce((newest, [, atMs]) => Math.max(newest, atMs), Number.NEGATIVE_INFINITY)
    for (const [machine, atMs] of known) this.#lastHere.set(machine, nowMs - (stoppedMs - atMs))
  }

  /** Takes down who is connected now. */
  look(connected: Iterable<string>, nowMs: number): void {
    for (const machine of connected) this.#lastHere.set(machine, nowMs)
  }

  /** When this coordinator began to look. */
  get startedMs(): number {
    return this.#startedMs
  }

  /** Since when a machine that is not connected now is away. Nobody was awaited before this start. */
  awaySinceMs(machine: string): number {
    return Math.max(this.#lastHere.get(machine) ?? this.#startedMs, this.#startedMs)
  }

  /** How many fell silent. Machines that we move ourselves are expected to be away. `isMember`: it was not sent away. */
  silence(
    connected: Iterable<string>,
    moved: ReadonlySet<string>,
    percent: number,
    nowMs: number,
    isMember: (machine: string) => boolean,
  ): Silence {
    const here = new Set(connected)
    let silent = 0
    for (const [machine, atMs] of this.#lastHere) {
      // Whoever was sent away did not fall silent: a farewell must not keep the next one waiting.
      if (!isMember(machine)) this.#lastHere.delete(machine)
      else if (!here.has(machine) && !moved.has(machine) && nowMs - atMs <= SILENT_FOR_MS) silent += 1
    }
    return { known: here.size + silent, silent, percent }
  }
}
