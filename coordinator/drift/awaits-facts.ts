/** How long the facts of a machine may take after a change: nodes read them when it ended, beside whatever they do then. */
export const FACTS_TAKE_MS = 60_000

/** The newest change of a machine that ended, as its outcome has it. Store paths. */
export interface EndedChange {
  readonly operation: string
  /** When the coordinator had its outcome. */
  readonly endedMs: number
  /** What ran at its end; empty: not told. */
  readonly runs: string
  /** What it made the next boot's default; undefined: nothing. */
  readonly promoted: string | undefined
}

export interface ToldFacts {
  readonly current: string | undefined
  readonly profile: string | undefined
  /** When the coordinator had them; undefined: none ever came. */
  readonly toldMs: number | undefined
}

/**
 * Whether the facts of a machine are from before the end of its newest change, contradict what that left, and may still be on
 * their way. Nothing can be said by such facts; when none come in time, those that are known count again.
 */
export function awaitsFacts(told: ToldFacts, change: EndedChange | undefined, nowMs: number): boolean {
  if (!change || told.toldMs === undefined || told.toldMs > change.endedMs) return false
  if (nowMs - change.endedMs >= FACTS_TAKE_MS) return false
  const runsElse = change.runs !== '' && told.current !== change.runs
  return runsElse || (change.promoted !== undefined && told.profile !== change.promoted)
}
