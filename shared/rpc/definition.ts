import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import { useFastTextEncoding } from './text-encoding.ts'

useFastTextEncoding()

/** What a handler is told about the call beside its request. */
export interface CallContext {
  /** Fires when the caller went away, cancelled or ran out of time, and when the call is complete. */
  readonly signal: AbortSignal
  readonly peer: Peer
}

/** Who is at the other end, as the transport knows it. */
export interface Peer {
  /** Address without port; empty on a unix socket. */
  readonly address: string
  /** The verified client certificate in DER; absent where none was asked for. */
  readonly certificate: Buffer | undefined
}

/** The handler of one method, by the method's kind. */
export type MethodHandler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, context: CallContext) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, context: CallContext) => AsyncIterable<MessageInitShape<O> | Encoded>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, context: CallContext) => Promise<MessageInitShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (
              requests: AsyncIterable<MessageShape<I>>,
              context: CallContext,
            ) => AsyncIterable<MessageInitShape<O> | Encoded>
          : never

/** One handler for every method of a service. */
export type ServiceHandlers<S extends DescService> = {
  [K in keyof S['method']]: MethodHandler<S['method'][K]>
}

/**
 * A message that was serialised already. What goes to a whole fleet is serialised once; it may be yielded by a handler
 * where its message is expected.
 */
export class Encoded {
  readonly bytes: Buffer

  private constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  static of<D extends DescMessage>(desc: D, message: MessageInitShape<D>): Encoded {
    return new Encoded(bytesOf(desc, message))
  }
}

function bytesOf<D extends DescMessage>(desc: D, message: MessageInitShape<D>): Buffer {
  const bytes = toBinary(desc, create(desc, message))
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

const codec = <D extends DescMessage>(desc: D) => ({
  serialize: (value: object) =>
    value instanceof Encoded ? value.bytes : bytesOf(desc, value as MessageInitShape<D>), // checked by the handler's type
  deserialize: (bytes: Buffer): object => fromBinary(desc, bytes),
})

/** What @grpc/grpc-js needs to know of a service, keyed by the methods' local names. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  const definition: Record<string, MethodDefinition<object, object>> = {}
  for (const method of service.methods) {
    const request = codec(method.input)
    const response = codec(method.output)
    definition[method.localName] = {
      path: `/${service.typeName}/${method.name}`,
      requestStream: method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming',
      responseStream: method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming',
      requestSerialize: request.serialize,
      requestDeserialize: request.deserialize,
      responseSerialize: response.serialize,
      responseDeserialize: response.deserialize,
    }
  }
  return definition
}
