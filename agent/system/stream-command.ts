import type { Readable } from 'node:stream'
import { LineSplitter } from './line-splitter.ts'
import type { ProcessGroups } from './process-groups.ts'
import type { OutputLine, RunningCommand, StreamOptions, StreamResult } from './system.ts'

// INVARIANTS
// - `result` settles after the last line is in the queue: drain first, then wait.
// - Both outputs are read all the time until the queue is full; then both wait for the reader.

const DEFAULT_MAX_LINE_BYTES = 4 * 1024
const MAX_QUEUE = 512

/** Starts a command whose output is taken line by line. */
export function streamFromGroup(
  groups: ProcessGroups,
  command: string,
  args: readonly string[],
  options: StreamOptions,
): RunningCommand {
  const controller = new AbortController()
  const forward = () => controller.abort()
  if (options.signal?.aborted) forward()
  options.signal?.addEventListener('abort', forward, { once: true })
  const queue = new LineQueue()
  const work = async (): Promise<StreamResult> => {
    try {
      const group = await groups.start(command, args, {
        ...options,
        signal: controller.signal,
        withInput: false,
      })
      if (!('child' in group)) return { ending: group, truncated: false }
      const { stdout, stderr } = group.child
      const maxLineBytes = options.maxLineBytes ?? DEFAULT_MAX_LINE_BYTES
      const flushes = [
        ...(stdout ? [feed(queue, 'stdout', stdout, maxLineBytes)] : []),
        ...(stderr ? [feed(queue, 'stderr', stderr, maxLineBytes)] : []),
      ]
      const { ending, drained } = await group.ended
      for (const flush of flushes) flush()
      return { ending, truncated: !drained }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return { ending: { kind: 'not-started', command, reason }, truncated: false }
    } finally {
      options.signal?.removeEventListener('abort', forward)
      queue.end()
    }
  }
  const result = work()
  return { lines: queue.lines(forward), result, cancel: forward }
}

/** Puts the lines of one output into the queue; the returned function adds what has no line break at its end. */
function feed(
  queue: LineQueue,
  source: OutputLine['source'],
  output: Readable,
  maxLineBytes: number,
): () => void {
  const splitter = new LineSplitter(maxLineBytes)
  queue.slow(output)
  output.on('data', (chunk: Buffer) => {
    for (const line of splitter.push(chunk)) queue.push({ source, ...line })
  })
  return () => {
    for (const line of splitter.end()) queue.push({ source, ...line })
  }
}

/** Lines waiting for their reader; pauses the outputs while too many wait. */
class LineQueue {
  #lines: OutputLine[] = []
  #outputs: Readable[] = []
  #ended = false
  #wake: (() => void) | undefined

  slow(output: Readable): void {
    this.#outputs.push(output)
  }

  push(line: OutputLine): void {
    this.#lines.push(line)
    if (this.#lines.length >= MAX_QUEUE) for (const output of this.#outputs) output.pause()
    this.#wake?.()
  }

  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  async *lines(onLeave: () => void): AsyncGenerator<OutputLine> {
    try {
      for (;;) {
        const batch = this.#lines
        this.#lines = []
        for (const output of this.#outputs) output.resume()
        yield* batch
        if (this.#lines.length > 0) continue
        if (this.#ended) return
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
      }
    } finally {
      onLeave()
      for (const output of this.#outputs) output.resume() // so that the rest drains and the command can end
      this.#lines = []
    }
  }
}
