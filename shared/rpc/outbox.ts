const END = { done: true, value: undefined } as const

/**
 * A bounded queue that one side fills and the other iterates, for the sending half of a stream.
 * INVARIANTS: items leave in the order they came; after `close` what is queued still leaves; `push` never waits and
 * says whether there was room. It is its own iterator, for one reader at a time that asks for the next item when it has
 * the last: a session that only waits keeps no more than it.
 */
export class Outbox<T> implements AsyncIterableIterator<T, undefined, undefined> {
  readonly #items: T[] = []
  readonly #limit: number
  /** Settles the reader that waits. */
  #settle: ((next: IteratorResult<T, undefined> | Promise<never>) => void) | undefined
  #closed = false
  #isLeft = false
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
    if (this.#settle) this.#answer({ done: false, value: item })
    else this.#items.push(item)
    return true
  }

  close(): void {
    this.#closed = true
    if (this.#settle) this.#answer(this.#failure ? Promise.reject(this.#failure) : END)
  }

  /** Ends the stream with an error at once; what is queued is dropped. */
  fail(error: Error): void {
    if (this.#closed) return
    this.#failure = error
    this.close()
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#isLeft) return Promise.resolve(END)
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.#items.length > 0) return Promise.resolve({ done: false, value: this.#items.shift()! })
    if (this.#closed) return Promise.resolve(END)
    return new Promise(resolve => {
      this.#settle = resolve
    })
  }

  /** The reader leaves: if it waits, it is told the end. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#isLeft = true
    this.#answer(END)
    return Promise.resolve(END)
  }

  [Symbol.asyncIterator](): this {
    this.#isLeft = false
    return this
  }

  #answer(next: IteratorResult<T, undefined> | Promise<never>): void {
    const settle = this.#settle
    this.#settle = undefined
    settle?.(next)
  }
}
