import { create } from '@bufbuild/protobuf'
import { type LogLines, LogLinesSchema } from '../../shared/gen/muster/v1/agent_pb.ts'

/** Lines of one operation that are sent as they come. */
const HEAD_LINES = 15_000
/** Beyond them only lines that speak of an error, up to this many, and the last ones. */
const ERROR_LINES = 2_000
const TAIL_LINES = 200
/** Lines in one message. */
const BATCH = 256
/** Lines that wait for a connection, over all operations. */
const WAITING = 20_000

/**
 * The output of operations on its way to the coordinator, in memory and bounded: the head, every line with an error, and
 * the tail are kept, and what was left out is counted, so that the line that matters is not the one cut off.
 */
export class OperationLog {
  readonly #waiting: LogLines[] = []
  #waitingLines = 0
  readonly #onLine: () => void
  #operation = ''
  #next = 0n
  #head = 0
  #errors = 0
  #dropped = 0n
  #tail: string[] = []

  constructor(onLine: () => void) {
    this.#onLine = onLine
  }

  /** Begins the output of an operation, or goes on with it. */
  begin(operation: string): void {
    if (this.#operation === operation) return
    this.#operation = operation
    this.#next = 0n
    this.#head = 0
    this.#errors = 0
    this.#dropped = 0n
    this.#tail = []
  }

  add(line: string): void {
    if (this.#head < HEAD_LINES) {
      this.#head += 1
      this.#queue(line)
    } else if (this.#errors < ERROR_LINES && /\berror\b/i.test(line)) {
      this.#errors += 1
      this.#queue(line)
    } else {
      this.#tail.push(line)
      if (this.#tail.length > TAIL_LINES) {
        this.#tail.shift()
        this.#dropped += 1n
      }
    }
  }

  /** Sends the tail that was held back. */
  end(): void {
    for (const line of this.#tail.splice(0)) this.#queue(line)
  }

  waiting(): readonly LogLines[] {
    return this.#waiting
  }

  sent(lines: LogLines): void {
    const index = this.#waiting.indexOf(lines)
    if (index === -1) return
    this.#waiting.splice(index, 1)
    this.#waitingLines -= lines.lines.length
  }

  #queue(line: string): void {
    if (this.#waitingLines >= WAITING) {
      this.#dropped += 1n
      return
    }
    const last = this.#waiting.at(-1)
    const joins =
      last !== undefined &&
      this.#waiting.length > 1 && // the first may be on its way already
      last.operationId === this.#operation &&
      last.lines.length < BATCH &&
      this.#dropped === 0n
    if (joins) {
      last.lines.push(line)
    } else {
      this.#waiting.push(
        create(LogLinesSchema, {
          operationId: this.#operation,
          first: this.#next,
          lines: [line],
          dropped: this.#dropped,
        }),
      )
      this.#dropped = 0n
    }
    this.#next += 1n
    this.#waitingLines += 1
    this.#onLine()
  }
}
