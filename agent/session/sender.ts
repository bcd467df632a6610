import type { MessageInitShape } from '@bufbuild/protobuf'
import type { SessionRequestSchema } from '../../shared/gen/muster/v1/agent_pb.ts'

export type Outgoing = MessageInitShape<typeof SessionRequestSchema>

/** Something that has messages to send for as long as it says so. */
export interface MessageSource {
  /** The next message, and what to do once it was handed to the connection. */
  next(): { readonly message: Outgoing; readonly sent: () => void } | undefined
}

const MAX_CONTROL = 64

/**
 * The sending half of a session. INVARIANTS: messages leave in the order of `push`; what the sources have is asked for
 * one message at a time, when the connection takes it, so that nothing piles up here and nothing is marked as sent that
 * still waits; sources are asked only after `open`.
 */
export class Sender implements AsyncIterable<Outgoing> {
  readonly #control: Outgoing[] = []
  readonly #sources: readonly MessageSource[]
  #wake: (() => void) | undefined
  #open = false
  #closed = false

  constructor(sources: readonly MessageSource[]) {
    this.#sources = sources
  }

  /** False when too much waits already: the connection does not take what it is given. */
  push(message: Outgoing): boolean {
    if (this.#closed || this.#control.length >= MAX_CONTROL) return false
    this.#control.push(message)
    this.wake()
    return true
  }

  /** Lets the sources speak: the other side has welcomed us. */
  open(): void {
    this.#open = true
    this.wake()
  }

  /** A source has something, or may have. */
  wake(): void {
    this.#wake?.()
  }

  close(): void {
    this.#closed = true
    this.wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Outgoing> {
    while (!this.#closed) {
      const control = this.#control.shift()
      if (control) {
        yield control
        continue
      }
      const next = this.#open ? this.#ask() : undefined
      if (next) {
        yield next.message
        next.sent()
        continue
      }
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  #ask(): ReturnType<MessageSource['next']> {
    for (const source of this.#sources) {
      const next = source.next()
      if (next) return next
    }
    return undefined
  }
}
