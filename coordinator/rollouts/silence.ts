import type { Silence } from './plan/rollout-snapshot.ts'

/** How long a machine that is not heard of counts as one that fell silent; longer away it is merely away. */
export const SILENT_FOR_MS = 10 * 60_000

/**
 * Who was connected a short time ago and is not now. Kept in memory; after a start it begins with what the store says, so that a fleet
 * that vanished while the coordinator was down is seen.
 */
export class SilenceWatch {
  readonly #seen = new Map<string, number>()

  /** Takes down when machines were last heard of before this start. */
  begin(seen: Iterable<readonly [machine: string, atMs: number]>): void {
    for (const [machine, atMs] of seen) this.#seen.set(machine, atMs)
  }

  /** Looks at who is connected now. Machines that we move ourselves are expected to be away. `isMember`: it was not sent away. */
  look(
    connected: Iterable<string>,
    moved: ReadonlySet<string>,
    percent: number,
    nowMs: number,
    isMember: (machine: string) => boolean,
  ): Silence {
    const here = new Set(connected)
    for (const machine of here) this.#seen.set(machine, nowMs)
    let silent = 0
    for (const [machine, atMs] of this.#seen) {
      // Whoever was sent away did not fall silent: a farewell must not keep the next one waiting.
      if (nowMs - atMs > SILENT_FOR_MS || !isMember(machine)) this.#seen.delete(machine)
      else if (!here.has(machine) && !moved.has(machine)) silent += 1
    }
    return { known: here.size + silent, silent, percent }
  }
}
