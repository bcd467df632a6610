import { EventEmitter } from 'node:events'
import { TLSSocket } from 'node:tls'
import type { Server } from '@grpc/grpc-js'

/** A connection that TLS turned away: the caller itself only sees it closed. */
export interface RefusedHandshake {
  /** Such as CERT_HAS_EXPIRED, DEPTH_ZERO_SELF_SIGNED_CERT or ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE. */
  readonly reason: string
  /** Undefined when the connection was gone too early to tell. */
  readonly remoteAddress: string | undefined
}

/**
 * Reports the handshakes that a bound server refuses. Strangers cause them at will, so whoever writes them down must bound
 * how often. grpc-js tells nobody, hence the look at its listeners; a version that keeps them elsewhere makes this throw.
 */
export function watchRefusedHandshakes(server: Server, report: (refused: RefusedHandshake) => void): void {
  const listeners: unknown = Reflect.get(server, 'http2Servers')
  if (!(listeners instanceof Map) || listeners.size === 0) {
    throw new Error(
      'the server has no listeners to watch: bind it first, and see whether grpc-js still keeps http2Servers',
    )
  }
  for (const listener of listeners.keys()) {
    if (!(listener instanceof EventEmitter))
      throw new Error('a listener of grpc-js is no longer an event emitter')
    // A plain socket remembers its peer's address once it was asked; by the time of the refusal it is too late to ask.
    listener.prependListener('connection', (socket: unknown) => void addressOf(socket))
    listener.on('tlsClientError', (error: unknown, socket: unknown) => {
      report({
        reason: reasonOf(error, socket),
        remoteAddress: addressOf(socket) ?? addressOf(plainSocketOf(socket)),
      })
    })
  }
}

function reasonOf(error: unknown, socket: unknown): string {
  // The type says Error; Node puts the code of the verification there, or null where there was none.
  const verdict: unknown = socket instanceof TLSSocket ? socket.authorizationError : undefined
  if (typeof verdict === 'string' && verdict !== '') return verdict
  return error instanceof Error && 'code' in error ? String(error.code) : 'the handshake failed'
}

function addressOf(socket: unknown): string | undefined {
  const address: unknown = socket instanceof Object ? Reflect.get(socket, 'remoteAddress') : undefined
  return typeof address === 'string' ? address : undefined
}

function plainSocketOf(socket: unknown): unknown {
  return socket instanceof TLSSocket ? Reflect.get(socket, '_parent') : undefined
}
