import { once } from 'node:events'
import type { DescMethod, DescService } from '@bufbuild/protobuf'
import {
  Metadata,
  type Server,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { hasCode, RpcError, reasonOf } from '../errors.ts'
import { type CallContext, type Peer, type ServiceHandlers, serviceDefinition } from './definition.ts'

/** What all four kinds of call have in common, as far as it is used here. */
interface AnyCall {
  once(event: 'cancelled', listener: () => void): unknown
  getPeer(): string
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } | undefined }
}

type AnyHandler = (input: unknown, context: CallContext) => unknown

/** What happens around every call of a service: who may call, and what is recorded. */
export interface ServeOptions {
  /** Throws an RpcError when this peer may not call this method. */
  readonly authorize?: (method: DescMethod, peer: Peer) => void | Promise<void>
  /** Told of errors that are bugs, with the method's name. */
  readonly onBug: (method: string, error: unknown) => void
}

/** Adds a service to a server. Anything a handler throws that is no RpcError reaches the caller as INTERNAL without its text. */
export function serve<S extends DescService>(
  server: Server,
  service: S,
  handlers: ServiceHandlers<S>,
  options: ServeOptions,
): void {
  const implementation: UntypedServiceImplementation = {}
  for (const method of service.methods) {
    // The keys of ServiceHandlers are the local names of the service's methods.
    const handler = (handlers as Record<string, AnyHandler>)[method.localName]
    if (!handler) throw new Error(`no handler for ${service.typeName}.${method.name}`)
    implementation[method.localName] = adapt(method, handler, options)
  }
  server.addService(serviceDefinition(service), implementation)
}

function adapt(method: DescMethod, handler: AnyHandler, options: ServeOptions) {
  const fail = (error: unknown): Partial<ServiceError> => {
    if (error instanceof RpcError)
      return { code: error.code, details: error.message, metadata: new Metadata() }
    options.onBug(method.name, error)
    return {
      code: status.INTERNAL,
      details: "internal error; the coordinator's log has it",
      metadata: new Metadata(),
    }
  }
  const begin = async (call: AnyCall): Promise<{ context: CallContext; end: () => void }> => {
    const controller = new AbortController()
    call.once('cancelled', () => controller.abort(new Error('the call was cancelled')))
    const peer = peerOf(call)
    await options.authorize?.(method, peer)
    return {
      context: { signal: controller.signal, peer },
      end: () => controller.abort(new Error('the call is complete')),
    }
  }
  // Apart from its caller, whose frame lives as long as the stream: the peer's certificate would be kept as long.
  const openStream = async (
    call: ServerWritableStream<object, object> | ServerDuplexStream<object, object>,
  ) => {
    const { context, end } = await begin(call)
    const input =
      method.methodKind === 'bidi_streaming'
        ? readAll(call as ServerDuplexStream<object, object>)
        : (call as ServerWritableStream<object, object>).request
    return { items: handler(input, context) as AsyncIterable<object>, signal: context.signal, end }
  }
  const answerOnce = async (
    call: ServerUnaryCall<object, object> | ServerReadableStream<object, object>,
    callback: sendUnaryData<object>,
  ): Promise<void> => {
    let end = () => {}
    try {
      const begun = await begin(call)
      end = begun.end
      const input =
        method.methodKind === 'unary'
          ? (call as ServerUnaryCall<object, object>).request
          : readAll(call as ServerReadableStream<object, object>)
      const answer = await handler(input, begun.context)
      // The handler's type says it is a message of the method's output.
      callback(null, answer as object)
    } catch (error) {
      callback(fail(error))
    } finally {
      end()
    }
  }
  const answerMany = async (
    call: ServerWritableStream<object, object> | ServerDuplexStream<object, object>,
  ): Promise<void> => {
    let end = () => {}
    // An 'error' without a listener would end the process; the cancelled event carries what matters.
    call.on('error', () => {})
    try {
      const open = await openStream(call)
      end = open.end
      for await (const item of open.items) {
        if (open.signal.aborted) break
        if (!call.write(item)) await once(call, 'drain', { signal: open.signal })
      }
      call.end()
    } catch (error) {
      if (call.cancelled || hasCode(error, 'ABORT_ERR')) call.end()
      else call.emit('error', fail(error))
    } finally {
      end()
    }
  }
  switch (method.methodKind) {
    case 'unary':
    case 'client_streaming':
      return (...args: Parameters<typeof answerOnce>) => void answerOnce(...args)
    case 'server_streaming':
    case 'bidi_streaming':
      return (...args: Parameters<typeof answerMany>) => void answerMany(...args)
  }
}

/** Reads a client's stream. Leaving it early must not destroy the call, or its status is never sent. */
function readAll(
  call: ServerReadableStream<object, object> | ServerDuplexStream<object, object>,
): AsyncIterable<object> {
  return {
    [Symbol.asyncIterator]: () => {
      const inner = call.iterator({ destroyOnReturn: false })
      return {
        next: async () => {
          try {
            return await inner.next()
          } catch (error) {
            // A caller that goes away in the middle ends the stream; the handler's signal has fired already.
            if (call.cancelled) return { done: true, value: undefined }
            throw new RpcError(status.CANCELLED, reasonOf(error))
          }
        },
        return: async () => (await inner.return?.()) ?? { done: true, value: undefined },
      }
    },
  }
}

function peerOf(call: AnyCall): Peer {
  const address = call.getPeer()
  const certificate = call.getAuthContext().sslPeerCertificate?.raw
  return { address: /^\[?(.*?)\]?:\d+$/.exec(address)?.[1] ?? '', certificate }
}
