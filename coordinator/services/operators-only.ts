import type { CallContext, Peer } from '../../shared/rpc/definition.ts'
import { denied } from '../../shared/rpc/rpc-error.ts'
import type { Caller } from '../api/caller.ts'
import type { OpenCalls } from './open-calls.ts'

type Handler<Request, Answer> = (request: Request, caller: Caller, signal: AbortSignal) => Answer

/** What makes handlers into calls that only operators may make, and root by the local socket. `callerOf` says who calls. */
export function operatorsOnly(openCalls: OpenCalls, callerOf: (peer: Peer) => Caller) {
  const allowed = (peer: Peer): Caller => {
    const caller = callerOf(peer)
    if (caller.kind !== 'operator' && caller.kind !== 'local') throw denied('only an operator may call this')
    return caller
  }
  return {
    asked:
      <Request, Answer>(handler: Handler<Request, Promise<Answer>>) =>
      async (request: Request, { peer, signal }: CallContext): Promise<Answer> =>
        await handler(request, allowed(peer), signal),
    streamed:
      <Request, Item>(handler: Handler<Request, AsyncIterable<Item>>) =>
      (request: Request, { peer, signal }: CallContext): AsyncIterable<Item> =>
        openCalls.stream(allowed(peer), signal, inner => handler(request, allowed(peer), inner)),
  }
}
