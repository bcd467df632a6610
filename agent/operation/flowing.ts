import { DeadlineError, withDeadline } from '../../shared/lifecycle.ts'

export interface FlowLimits {
  /** How long nothing may come. */
  readonly stallMs: number
  /** When all of it must be here, by performance.now(). */
  readonly endMs: number
}

/**
 * A stream of the coordinator's, for as long as it flows. One that stands still or drips for ever would otherwise keep
 * this node's one operation, and all behind it, waiting: whoever serves the stream is not trusted to end it.
 */
export async function* flowing<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  { stallMs, endMs }: FlowLimits,
  signal: AbortSignal,
): AsyncGenerator<T> {
  const stop = new AbortController()
  const forward = () => stop.abort(signal.reason)
  if (signal.aborted) forward()
  signal.addEventListener('abort', forward, { once: true })
  const reader = open(stop.signal)[Symbol.asyncIterator]()
  try {
    for (;;) {
      const leftMs = endMs - performance.now()
      if (leftMs <= 0) throw new DeadlineError('it did not come to its end in the time it has')
      const next = await withDeadline(Math.min(stallMs, leftMs), signal, () => reader.next())
      if (next.done) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', forward)
    stop.abort(new Error('the stream is read no more'))
    // Not waited for: a source that hangs would hang here too. Its end is of no interest any more.
    void reader.return?.().catch(() => {})
  }
}
