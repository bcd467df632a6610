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
import { hasCode, reasonOf } from '../errors.ts'
import { openToMany, pause } from '../lifecycle.ts'
import { type CallContext, type Peer, type ServiceHandlers, serviceDefinition } from './definition.ts'
import { drained } from './drained.ts'
import { RpcError } from './rpc-error.ts'

/** What all four kinds of call have in common, as far as it is used here. */
interface AnyCall {
  on(event: 'cancelled', listener: () => void): unknown
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
  const authorize = async (call: AnyCall, running: RunningCall): Promise<CallContext> => {
    // Not `once`, which keeps three objects more for each session; the second time does nothing.
    call.on('cancelled', () => running.end(new Error('the call was cancelled')))
    const peer = peerOf(call)
    await options.authorize?.(method, peer)
    // The running call itself must not hold the peer: its certificate would be kept for as long as a stream lasts.
    return {
      peer,
      get signal() {
        return running.signal
      },
    }
  }
  const answerOnce = async (
    call: ServerUnaryCall<object, object> | ServerReadableStream<object, object>,
    callback: sendUnaryData<object>,
  ): Promise<void> => {
    const running = new RunningCall()
    try {
      const context = await authorize(call, running)
      const input =
        method.methodKind === 'unary'
          ? (call as ServerUnaryCall<object, object>).request
          : new CallReader(call as ServerReadableStream<object, object>)
      const answer = await handler(input, context)
      // The handler's type says it is a message of the method's output.
      callback(null, answer as object)
    } catch (error) {
      callback(fail(error))
    } finally {
      running.end(new Error('the call is complete'))
    }
  }
  // Apart from its caller, whose frame lives as long as the stream.
  const openStream = async (
    call: ServerWritableStream<object, object> | ServerDuplexStream<object, object>,
    running: RunningCall,
  ): Promise<AsyncIterator<object>> => {
    const context = await authorize(call, running)
    const input =
      method.methodKind === 'bidi_streaming'
        ? new CallReader(call as ServerDuplexStream<object, object>)
        : (call as ServerWritableStream<object, object>).request
    const items = (handler(input, context) as AsyncIterable<object>)[Symbol.asyncIterator]()
    running.onEnd(() => leave(items))
    return items
  }
  const answerMany = async (
    call: ServerWritableStream<object, object> | ServerDuplexStream<object, object>,
  ): Promise<void> => {
    const running = new RunningCall()
    try {
      const items = await openStream(call, running)
      for (let next = await items.next(); !next.done; next = await items.next()) {
        if (call.cancelled) break
        if (!call.write(next.value)) await drained(call)
      }
      call.end()
    } catch (error) {
      await untilWritten(call)
      if (call.cancelled || hasCode(error, 'ABORT_ERR')) call.end()
      else call.emit('error', fail(error))
    } finally {
      running.end(new Error('the call is complete'))
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

/** How long a failed stream waits for what it said before; a caller that takes nothing more does without. */
const LAST_WORDS_MS = 500

/** A status that is sent while a message is still on its way is lost by grpc-js, and with it the end of the call. */
async function untilWritten(call: {
  readonly writableLength: number
  readonly cancelled: boolean
}): Promise<void> {
  const until = performance.now() + LAST_WORDS_MS
  while (call.writableLength > 0 && !call.cancelled && performance.now() < until) await pause(1)
}

/** A call from its first message to its end. Its signal is made only for a handler that asks for it. */
class RunningCall {
  #controller: AbortController | undefined
  #ended: Error | undefined
  #onEnd: (() => void) | undefined

  get signal(): AbortSignal {
    this.#controller ??= openToMany()
    if (this.#ended) this.#controller.abort(this.#ended)
    return this.#controller.signal
  }

  /** Told once when the call is over, however it came to that. One listener. */
  onEnd(listener: () => void): void {
    if (this.#ended) listener()
    else this.#onEnd = listener
  }

  end(reason: Error): void {
    if (this.#ended) return
    this.#ended = reason
    this.#controller?.abort(reason)
    this.#onEnd?.()
  }
}

/** Whoever makes the items hears that nobody takes them any more; what goes wrong then has no one to tell. */
function leave(items: AsyncIterator<object>): void {
  Promise.resolve(items.return?.()).catch(ignore)
}

function ignore(): void {}

/**
 * What a client sends, one message at a time. Leaving it early leaves the call as it is, or its status would never be
 * sent. Written by hand: Node's own iterator keeps a dozen functions for each session.
 */
class CallReader implements AsyncIterableIterator<object, undefined, undefined> {
  readonly #call: ServerReadableStream<object, object> | ServerDuplexStream<object, object>
  readonly #look = (error?: unknown) => this.#lookAnew(error)
  #settle: ((next: IteratorResult<object, undefined> | Promise<never>) => void) | undefined
  #failure: Error | undefined
  #isLeft = false

  constructor(call: ServerReadableStream<object, object> | ServerDuplexStream<object, object>) {
    this.#call = call
    for (const event of EVENTS) call.on(event, this.#look)
  }

  next(): Promise<IteratorResult<object, undefined>> {
    const found = this.#find()
    if (found) return Promise.resolve(found)
    return new Promise(resolve => {
      this.#settle = resolve
    })
  }

  return(): Promise<IteratorResult<object, undefined>> {
    this.#isLeft = true
    this.#lookAnew(undefined)
    for (const event of EVENTS) if (event !== 'error') this.#call.off(event, this.#look)
    return Promise.resolve(END)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #lookAnew(error: unknown): void {
    if (error instanceof Error) this.#failure ??= error
    const settle = this.#settle
    if (!settle) return
    const found = this.#find()
    if (!found) return
    this.#settle = undefined
    settle(found)
  }

  /** The next message, the end, or what went wrong; undefined: none of them is there yet. */
  #find(): IteratorResult<object, undefined> | Promise<never> | undefined {
    const call = this.#call
    if (this.#isLeft) return END
    const message: object | null = call.read()
    if (message !== null) return { done: false, value: message }
    // A caller that goes away in the middle ends the stream; the handler's signal has fired already.
    if (call.cancelled || call.readableEnded) return END
    if (this.#failure) return Promise.reject(new RpcError(status.CANCELLED, reasonOf(this.#failure)))
    return call.destroyed ? END : undefined
  }
}

const EVENTS = ['readable', 'end', 'close', 'error'] as const
const END = { done: true, value: undefined } as const

function peerOf(call: AnyCall): Peer {
  const address = call.getPeer()
  const certificate = call.getAuthContext().sslPeerCertificate?.raw
  return { address: /^\[?(.*?)\]?:\d+$/.exec(address)?.[1] ?? '', certificate }
}
