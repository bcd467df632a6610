/** The key under which the output of an operation changes; the operation itself changes under its id. */
export function logKey(operation: string): string {
  return `log ${operation}`
}

/**
 * Tells watchers that something changed, never what: they read the store again, so a slow one needs no queue.
 * INVARIANTS: a change after `watch` returned is never missed, also while the watcher is busy reading; what is kept for
 * a watcher is bounded by the keys it named.
 */
export class ChangeFeed {
  readonly #watches = new Map<string, Set<Watch>>()
  readonly #onChange: () => void

  /** `onChange` is told that something changed, whatever it is. */
  constructor(onChange: () => void = () => {}) {
    this.#onChange = onChange
  }

  notify(key: string): void {
    this.#onChange()
    for (const watch of this.#watches.get(key) ?? []) watch.changed(key)
  }

  /** Subscribe before you read. */
  watch(keys: readonly string[]): Watch {
    const watch = new Watch(() => {
      for (const key of keys) {
        const others = this.#watches.get(key)
        others?.delete(watch)
        if (others?.size === 0) this.#watches.delete(key)
      }
    })
    for (const key of keys) {
      const others = this.#watches.get(key)
      if (others) others.add(watch)
      else this.#watches.set(key, new Set([watch]))
    }
    return watch
  }

  /** Keys that somebody watches. */
  get size(): number {
    return this.#watches.size
  }
}

class Watch implements Disposable {
  readonly #end: () => void
  #changed = new Set<string>()
  #wake: (() => void) | undefined

  constructor(end: () => void) {
    this.#end = end
  }

  changed(key: string): void {
    this.#changed.add(key)
    this.#wake?.()
  }

  /** The keys that changed since the last call; waits for one. Empty when the signal fired. */
  async next(signal: AbortSignal): Promise<ReadonlySet<string>> {
    if (this.#changed.size === 0 && !signal.aborted) {
      await new Promise<void>(resolve => {
        const done = () => {
          signal.removeEventListener('abort', done)
          this.#wake = undefined
          resolve()
        }
        this.#wake = done
        signal.addEventListener('abort', done, { once: true })
      })
    }
    const changed = this.#changed
    this.#changed = new Set()
    return changed
  }

  [Symbol.dispose](): void {
    this.#end()
  }
}
