import type { LogChunk, LogTotals } from '../store/logs.ts'

export interface LogLimits {
  readonly lines: number
  readonly bytes: number
}

export interface LogSnapshot {
  /** The chunk that stands under the number the new one claims. */
  readonly sameFirst: LogChunk | undefined
  readonly last: LogChunk | undefined
  readonly totals: LogTotals
}

/**
 * Where a piece of output goes. A piece that is there already is nothing new. A node that began to count anew (its agent
 * restarted within the operation) is continued after what is kept, so that nothing is lost or overwritten. What is over
 * the limits is counted in one last, empty piece.
 */
export function placeLogChunk(
  incoming: LogChunk,
  { sameFirst, last, totals }: LogSnapshot,
  limits: LogLimits,
): LogChunk | undefined {
  if (incoming.lines.length === 0 && incoming.dropped === 0) return undefined
  if (sameFirst && sameLines(sameFirst, incoming)) return undefined
  const next = last ? last.first + last.lines.length : 0
  // Sent again by one that counts anew. From one that goes on counting a line like the one before is another line.
  const again = last && incoming.first < next && incoming.lines.length > 0 && sameLines(last, incoming)
  if (again) return undefined
  const first = Math.max(incoming.first, next)
  const bytes = Buffer.byteLength(JSON.stringify(incoming.lines))
  const full = totals.lines + incoming.lines.length > limits.lines || totals.bytes + bytes > limits.bytes
  // The piece that counts what is left out stands right behind the last lines, under the number that comes next.
  const counted = last?.lines.length === 0 ? last : undefined
  if (full || counted) {
    return {
      first: counted?.first ?? next,
      lines: [],
      dropped: (counted?.dropped ?? 0) + incoming.lines.length + incoming.dropped,
    }
  }
  return { first, lines: incoming.lines, dropped: incoming.dropped }
}

function sameLines(a: LogChunk, b: LogChunk): boolean {
  return (
    a.lines.length === b.lines.length &&
    a.lines.every((line, at) => line === b.lines[at]) &&
    a.dropped === b.dropped
  )
}
