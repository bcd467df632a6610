import type { CallContext, Peer } from '../../shared/rpc/definition.ts'
import { denied } from '../../shared/rpc/rpc-error.ts'
import type { Caller } from '../api/caller.ts'
import type { OperatorCalls } from './operator-calls.ts'

type Handler<Request, Answer> = (request: Request, caller: Caller, signal: AbortSignal) => Answer

/** What makes handlers into calls that only operators may make, and root by the local socket. `callerOf` says who calls. */
export function operatorsOnly(operatorCalls: OperatorCalls, callerOf: (peer: Peer) => Caller) {
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
      (request: Request, { peer, signal }: CallContext): AsyncIterable<Item> => {
        const caller = allowed(peer)
        return operatorCalls.stream(caller, signal, inner => handler(request, caller, inner))
      },
  }
}
