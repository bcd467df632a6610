/** How long and how much of the past is kept. */
export interface RetentionPolicy {
  readonly maxAgeMs: number
  /** Bound of all build output together. */
  readonly logBytes: number
  readonly events: number
  readonly operations: number
}

export const RETENTION: RetentionPolicy = {
  maxAgeMs: 90 * 86_400_000,
  logBytes: 1_000_000_000,
  events: 500_000,
  operations: 200_000,
}

export interface KeptLog {
  readonly operation: string
  readonly bytes: number
  /** When its newest line came. */
  readonly atMs: number
  /** The operation has an outcome, or is gone. */
  readonly ended: boolean
}

/** What there is of the past. */
export interface RetentionCounts {
  /** Ids of the oldest and the newest event; undefined: none. */
  readonly events: { readonly oldest: number; readonly newest: number } | undefined
  readonly operations: number
  readonly logs: readonly KeptLog[]
}

export interface Deletions {
  /** Events, ended operations, requests and facts that were followed by others, from before this time. */
  readonly beforeMs: number
  /** Events up to this id; 0: none. */
  readonly eventsUpTo: number
  /** So many of the oldest ended operations. */
  readonly operations: number
  /** The output of these operations. */
  readonly logs: readonly string[]
}

/** What has to go, by age and then by size, the oldest first. The output of what still runs always stays. */
export function whatToDelete(policy: RetentionPolicy, counts: RetentionCounts, now: Date): Deletions {
  const beforeMs = now.getTime() - policy.maxAgeMs
  const { events } = counts
  const logs: string[] = []
  let bytes = counts.logs.reduce((sum, log) => sum + log.bytes, 0)
  const oldestFirst = counts.logs
    .filter(log => log.ended)
    .toSorted((a, b) => a.atMs - b.atMs || (a.operation < b.operation ? -1 : 1))
  for (const log of oldestFirst) {
    if (log.atMs >= beforeMs && bytes <= policy.logBytes) break
    logs.push(log.operation)
    bytes -= log.bytes
  }
  return {
    beforeMs,
    eventsUpTo: events && events.newest - events.oldest >= policy.events ? events.newest - policy.events : 0,
    operations: Math.max(0, counts.operations - policy.operations),
    logs,
  }
}
