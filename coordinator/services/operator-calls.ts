import { denied } from '../../shared/errors.ts'
import type { Caller } from '../api/caller.ts'

interface OpenCall {
  readonly controller: AbortController
  removed: boolean
}

/** The calls of operators that are open, so that removing one ends what it still hears. */
export class OperatorCalls {
  readonly #open = new Map<string, Set<OpenCall>>()

  /** Ends all calls of one operator. */
  end(operator: string): void {
    for (const call of this.#open.get(operator) ?? []) {
      call.removed = true
      call.controller.abort(denied('this operator was removed'))
    }
  }

  /** Runs the iteration that a call answers with for as long as its operator is one. */
  async *stream<T>(
    caller: Caller,
    signal: AbortSignal,
    begin: (signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    if (caller.kind !== 'operator') return yield* begin(signal)
    const call: OpenCall = { controller: new AbortController(), removed: false }
    const forward = () => call.controller.abort(signal.reason)
    signal.addEventListener('abort', forward, { once: true })
    const calls = this.#open.get(caller.id) ?? new Set()
    this.#open.set(caller.id, calls.add(call))
    try {
      for await (const item of begin(call.controller.signal)) {
        if (call.removed) break
        yield item
      }
    } finally {
      signal.removeEventListener('abort', forward)
      calls.delete(call)
      if (calls.size === 0) this.#open.delete(caller.id)
    }
    if (call.removed) throw denied('this operator was removed')
  }
}
