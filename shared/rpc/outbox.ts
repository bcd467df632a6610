/**
 * A bounded queue that one side fills and the other iterates, for the sending half of a stream.
 * INVARIANTS: items leave in the order they came; after `close` what is queued still leaves; `push` never waits and
 * says whether there was room.
 */
export class Outbox<T> implements AsyncIterable<T> {
  readonly #items: T[] = []
  readonly #limit: number
  #wake: (() => void) | undefined
  #closed = false
  #failure: Error | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#items.length
  }

  get closed(): boolean {
    return this.#closed
  }

  push(item: T): boolean {
    if (this.#closed || this.#items.length >= this.#limit) return false
    this.#items.push(item)
    this.#wake?.()
    return true
  }

  close(): void {
    this.#closed = true
    this.#wake?.()
  }

  /** Ends the stream with an error at once; what is queued is dropped. */
  fail(error: Error): void {
    if (this.#closed) return
    this.#failure = error
    this.close()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      while (this.#items.length > 0 && !this.#failure) yield this.#items.shift()!
      if (this.#failure) throw this.#failure
      if (this.#closed) return
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }
}
