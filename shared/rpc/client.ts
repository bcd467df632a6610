import type {
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf'
import {
  type ChannelCredentials,
  type ChannelOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  Metadata,
  makeClientConstructor,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { serviceDefinition } from './definition.ts'
import { drained } from './drained.ts'
import { RpcError } from './rpc-error.ts'
import { whyNoConnection } from './why-no-connection.ts'

/** Bounds of one call. */
export interface CallOptions {
  readonly signal?: AbortSignal
  /** Milliseconds until the call fails with DEADLINE_EXCEEDED. Unary calls have 30 s where nothing is said. */
  readonly deadlineMs?: number
}

type MethodCall<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => Promise<MessageShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (
              requests: AsyncIterable<MessageInitShape<I>>,
              options?: CallOptions,
            ) => AsyncIterable<MessageShape<O>>
          : never

/** A client of one service: a method for each of its methods. Errors are RpcErrors. */
export type RpcClient<S extends DescService> = {
  [K in keyof S['method']]: MethodCall<S['method'][K]>
} & Disposable

// What makeClientConstructor puts on the stub for the four kinds of method; it has no types of its own.
interface Stub {
  close(): void
  [method: string]: (...args: unknown[]) => unknown
}

const UNARY_DEADLINE_MS = 30_000

/** Connects lazily; `address` is host:port or unix:/path. */
export function createClient<S extends DescService>(
  service: S,
  address: string,
  credentials: ChannelCredentials,
  options: ChannelOptions = {},
): RpcClient<S> {
  const Constructor = makeClientConstructor(serviceDefinition(service), service.typeName)
  // A cast: the constructor's result is typed without the methods it was built with.
  const stub = new Constructor(address, credentials, {
    'grpc.use_local_subchannel_pool': 1,
    // Neither the environment's proxy nor DNS has a say in how the other side is reached.
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    ...options,
  }) as unknown as Stub
  const client: Record<string | symbol, unknown> = { [Symbol.dispose]: () => stub.close() }
  for (const method of service.methods) {
    const invoke = (...args: unknown[]) => stub[method.localName]!(...args)
    switch (method.methodKind) {
      case 'unary':
        client[method.localName] = (request: object, call?: CallOptions) => unary(invoke, request, call)
        break
      case 'server_streaming':
        client[method.localName] = (request: object, call?: CallOptions) =>
          readStream(
            () => invoke(request, new Metadata(), deadline(call)) as ClientReadableStream<object>,
            call,
          )
        break
      case 'client_streaming':
        client[method.localName] = (requests: AsyncIterable<object>, call?: CallOptions) =>
          clientStream(invoke, requests, call)
        break
      case 'bidi_streaming':
        client[method.localName] = (requests: AsyncIterable<object>, call?: CallOptions) =>
          readStream(() => {
            const stream = invoke(new Metadata(), deadline(call)) as ClientDuplexStream<object, object>
            void writeAll(stream, requests)
            return stream
          }, call)
        break
    }
  }
  // A cast: the loop above gives every method of the service the function its kind asks for.
  return client as unknown as RpcClient<S>
}

function deadline(call: CallOptions | undefined, fallbackMs?: number): { deadline?: number } {
  const ms = call?.deadlineMs ?? fallbackMs
  return ms === undefined ? {} : { deadline: Date.now() + ms }
}

function toRpcError(error: unknown): unknown {
  if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
    const { code, details } = error as ServiceError
    const text = code === status.UNAVAILABLE ? whyNoConnection(details) : details
    return new RpcError(code, text || status[code] || 'unknown', { cause: error })
  }
  return error
}

function unary(
  invoke: (...args: unknown[]) => unknown,
  request: object,
  call: CallOptions | undefined,
): Promise<object> {
  return new Promise((resolve, reject) => {
    const cancel = () => running.cancel()
    const done = (error: ServiceError | null, answer?: object) => {
      call?.signal?.removeEventListener('abort', cancel)
      if (error) reject(toRpcError(error))
      else resolve(answer ?? {})
    }
    const running = invoke(request, new Metadata(), deadline(call, UNARY_DEADLINE_MS), done) as {
      cancel(): void
    }
    if (call?.signal?.aborted) cancel()
    else call?.signal?.addEventListener('abort', cancel, { once: true })
  })
}

function clientStream(
  invoke: (...args: unknown[]) => unknown,
  requests: AsyncIterable<object>,
  call: CallOptions | undefined,
): Promise<object> {
  return new Promise((resolve, reject) => {
    const cancel = () => stream.cancel()
    const done = (error: ServiceError | null, answer?: object) => {
      call?.signal?.removeEventListener('abort', cancel)
      if (error) reject(toRpcError(error))
      else resolve(answer ?? {})
    }
    const stream = invoke(new Metadata(), deadline(call), done) as ClientWritableStream<object>
    if (call?.signal?.aborted) cancel()
    else call?.signal?.addEventListener('abort', cancel, { once: true })
    void writeAll(stream, requests)
  })
}

/** Writes with back-pressure. What goes wrong with the connection is told by the reading side. */
async function writeAll(
  stream: ClientWritableStream<object> | ClientDuplexStream<object, object>,
  requests: AsyncIterable<object>,
): Promise<void> {
  let isOver = false
  stream.on('error', () => {
    isOver = true
  })
  try {
    for await (const request of requests) {
      if (isOver || stream.destroyed || stream.writableEnded) return
      if (!stream.write(request)) await drained(stream)
    }
    stream.end()
  } catch {
    stream.cancel() // the source of the requests failed: the other side must not take them for complete
  }
}

async function* readStream(
  open: () => ClientReadableStream<object>,
  call: CallOptions | undefined,
): AsyncGenerator<object> {
  if (call?.signal?.aborted) return
  const stream = open()
  const cancel = () => stream.cancel()
  call?.signal?.addEventListener('abort', cancel, { once: true })
  try {
    yield* stream
  } catch (error) {
    if (call?.signal?.aborted) return
    throw toRpcError(error)
  } finally {
    call?.signal?.removeEventListener('abort', cancel)
    // Leaving the iteration destroys the Node stream but does not cancel the call.
    stream.cancel()
  }
}
