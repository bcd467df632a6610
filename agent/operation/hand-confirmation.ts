/** The word of root on this machine for an operation that waits for the coordinator. */
export class HandConfirmation {
  readonly #waiting = new Map<string, () => void>()

  /** Settles when somebody confirms the operation; rejects when the signal fires. */
  wait(operation: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#waiting.delete(operation)
        signal.removeEventListener('abort', onAbort)
      }
      const onAbort = () => {
        done()
        reject(new Error('no longer waited for'))
      }
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiting.set(operation, () => {
        done()
        resolve()
      })
    })
  }

  /** The operation of this name that waits, or with an empty name the one that does. */
  waiting(operation: string): string | undefined {
    const [first] = this.#waiting.keys()
    if (operation === '') return first
    return this.#waiting.has(operation) ? operation : undefined
  }

  confirm(operation: string): void {
    this.#waiting.get(operation)?.()
  }
}
