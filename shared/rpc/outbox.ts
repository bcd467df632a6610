const END = { done: true, value: undefined } as const

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

  /**
   * For one reader, which asks for the next item when it has the last. Written out, because a generator keeps its frame
   * for every session.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<T, undefined, undefined> {
    let isLeft = false
    const iterator: AsyncIterableIterator<T, undefined, undefined> = {
      next: () =>
        new Promise((resolve, reject) => {
          const tell = () => {
            this.#wake = undefined
            if (isLeft) resolve(END)
            else if (this.#failure) reject(this.#failure)
            else {
              const taken = this.#take()
              if (taken) resolve(taken)
              else this.#wake = tell
            }
          }
          tell()
        }),
      return: async () => {
        isLeft = true
        this.#wake?.()
        return END
      },
      [Symbol.asyncIterator]: () => iterator,
    }
    return iterator
  }

  /** The next item or the end; undefined: neither is there yet. */
  #take(): IteratorResult<T, undefined> | undefined {
    if (this.#items.length > 0) return { done: false, value: this.#items.shift()! }
    return this.#closed ? END : undefined
  }
}
