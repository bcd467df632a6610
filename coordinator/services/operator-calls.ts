import { openToMany } from '../../shared/lifecycle.ts'
import { denied } from '../../shared/rpc/rpc-error.ts'
import type { Caller } from '../api/caller.ts'

interface OpenCall {
  readonly controller: AbortController
  /** Why its operator may hear no more. */
  over: string | undefined
}

/** Timers hold no longer time. */
const LONGEST_MS = 2 ** 31 - 1

/** The calls of operators that are open, so that removing one, or the end of its certificate, ends what it still hears. */
export class OperatorCalls {
  readonly #open = new Map<string, Set<OpenCall>>()

  /** Ends all calls of one operator. */
  end(operator: string): void {
    for (const call of this.#open.get(operator) ?? []) finish(call, 'this operator was removed')
  }

  /** Runs the iteration that a call answers with for as long as its operator is one. */
  async *stream<T>(
    caller: Caller,
    signal: AbortSignal,
    begin: (signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    if (caller.kind !== 'operator') return yield* begin(signal)
    const call: OpenCall = { controller: openToMany(), over: undefined }
    const leftMs = caller.notAfter ? caller.notAfter.getTime() - Date.now() : LONGEST_MS
    const timer = setTimeout(
      () => finish(call, 'the certificate of this operator has ended'),
      Math.min(leftMs, LONGEST_MS),
    )
    const forward = () => call.controller.abort(signal.reason)
    signal.addEventListener('abort', forward, { once: true })
    const calls = this.#open.get(caller.id) ?? new Set()
    this.#open.set(caller.id, calls.add(call))
    try {
      for await (const item of begin(call.controller.signal)) {
        if (call.over !== undefined) break
        yield item
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', forward)
      calls.delete(call)
      if (calls.size === 0) this.#open.delete(caller.id)
    }
    if (call.over !== undefined) throw denied(call.over)
  }
}

function finish(call: OpenCall, why: string): void {
  call.over ??= why
  call.controller.abort(denied(why))
}
