import type { Clock } from '../../shared/clock.ts'
import { openToMany } from '../../shared/lifecycle.ts'
import { denied, type RpcError, unauthenticated } from '../../shared/rpc/rpc-error.ts'
import type { Caller } from '../api/caller.ts'

type Certified = Extract<Caller, { readonly kind: 'operator' | 'machine' }>

interface OpenCall {
  readonly caller: Certified
  readonly controller: AbortController
  /** Why its caller may hear no more. */
  over: RpcError | undefined
}

/** Timers hold no longer time. */
const LONGEST_MS = 2 ** 31 - 1

/**
 * What operators and machines are being answered, apart from sessions, so that it ends with the right to hear it: a caller
 * is looked at when a call begins, and an answer may last for as long as its caller takes to read it.
 */
export class OpenCalls {
  readonly #clock: Clock
  /** By kind and id of the caller. */
  readonly #open = new Map<string, Set<OpenCall>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Ends all calls of an operator that was removed. */
  endOperator(id: string): void {
    this.#end({ kind: 'operator', id }, denied('this operator was removed'))
  }

  /** Ends all calls of a machine that may no longer speak here. */
  endMachine(id: string, reason: string): void {
    this.#end({ kind: 'machine', id }, denied(reason))
  }

  /** Ends the calls whose certificate comes from an authority that is trusted no longer. */
  endIssuedBy(isTrusted: (pin: string) => boolean): void {
    const dropped = unauthenticated('the authority of this certificate was dropped; ask for a new one')
    for (const calls of this.#open.values()) {
      for (const call of calls) {
        const { issuer } = call.caller
        if (issuer !== undefined && !isTrusted(issuer)) finish(call, dropped)
      }
    }
  }

  /**
   * Runs the iteration that a call answers with for as long as its caller may hear it. `begin` asks once more who calls:
   * only from then on it is heard of when that changes.
   */
  async *stream<T>(
    caller: Caller,
    signal: AbortSignal,
    begin: (signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    if (caller.kind !== 'operator' && caller.kind !== 'machine') return yield* begin(signal)
    const call: OpenCall = { caller, controller: openToMany(), over: undefined }
    const inner = call.controller.signal
    const timer = this.#endAt(call)
    const forward = () => call.controller.abort(signal.reason)
    signal.addEventListener('abort', forward, { once: true })
    const key = keyOf(caller)
    const calls = this.#open.get(key) ?? new Set()
    this.#open.set(key, calls.add(call))
    try {
      const items = begin(inner)[Symbol.asyncIterator]()
      // A caller that takes nothing more asks for nothing more: what was opened for it is let go without that.
      inner.addEventListener('abort', () => leave(items), { once: true })
      try {
        for (let next = await items.next(); !next.done && !call.over; next = await items.next()) {
          yield next.value
        }
      } catch (error) {
        throw call.over ?? error
      } finally {
        await items.return?.()
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', forward)
      calls.delete(call)
      if (calls.size === 0) this.#open.delete(key)
    }
    if (call.over) throw call.over
  }

  #end(caller: Pick<Certified, 'kind' | 'id'>, why: RpcError): void {
    for (const call of this.#open.get(keyOf(caller)) ?? []) finish(call, why)
  }

  #endAt(call: OpenCall): NodeJS.Timeout {
    const { notAfter } = call.caller
    const leftMs = notAfter ? notAfter.getTime() - this.#clock.now().getTime() : LONGEST_MS
    const ended = unauthenticated('the certificate has ended; renew it and connect anew')
    return setTimeout(() => finish(call, ended), Math.min(leftMs, LONGEST_MS))
  }
}

function keyOf({ kind, id }: Pick<Certified, 'kind' | 'id'>): string {
  return `${kind} ${id}`
}

function finish(call: OpenCall, why: RpcError): void {
  call.over ??= why
  call.controller.abort(why)
}

/** Whoever makes the items hears that nobody takes them any more; what goes wrong then has no one to tell. */
function leave(items: AsyncIterator<unknown>): void {
  Promise.resolve(items.return?.()).catch(() => {})
}
