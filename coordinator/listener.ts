import type { Http2Session } from 'node:http2'
import { Server as NetServer, type Socket } from 'node:net'
import { Server, type ServerCredentials, type ServerOptions } from '@grpc/grpc-js'

/** Idle connections are probed, so that a cable that was pulled is noticed without anybody speaking. */
const OPTIONS = {
  'grpc.keepalive_time_ms': 60_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_send_message_length': 20 * 1024 * 1024,
  // Its book-keeping of every connection and call has no reader here and costs memory for each agent.
  'grpc.enable_channelz': 0,
}

/** What strangers may hold open: facts of 64 KiB fit, and a connection serves for an enrolment, not for a life. */
export const STRANGERS: ListenerOptions = {
  channel: {
    'grpc.max_receive_message_length': 128 * 1024,
    'grpc.max_concurrent_streams': 16,
    'grpc.max_connection_idle_ms': 30_000,
    'grpc.max_connection_age_ms': 120_000,
    'grpc.max_connection_age_grace_ms': 10_000,
  },
  maxConnections: 4_096,
}

/** For those who hold a certificate: streams last, but one connection has no need of thousands. */
export const MEMBERS: ListenerOptions = { channel: { 'grpc.max_concurrent_streams': 128 } }

export interface ListenerOptions {
  /** Laid over what holds for all listeners. */
  readonly channel?: ServerOptions
  /** Connections at once; further ones are closed before TLS begins, so that they cost no memory. */
  readonly maxConnections?: number
}

/** How long calls may go on once a listener stops taking new ones. */
const DRAIN_MS = 5_000

/** A gRPC server that listens; its services are added before it does. */
export interface Listener extends AsyncDisposable {
  readonly server: Server
  /** The port it got; 0 for a unix socket. */
  readonly port: number
}

export async function openListener(
  address: string,
  credentials: ServerCredentials,
  addServices: (server: Server) => void,
  { channel = {}, maxConnections }: ListenerOptions = {},
): Promise<Listener> {
  const server = new Server({ ...OPTIONS, ...channel })
  addServices(server)
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => (error ? reject(error) : resolve(bound)))
  }).catch((error: unknown) => {
    throw new Error(
      `cannot listen on ${address}: ${error instanceof Error ? error.message : String(error)}; is another coordinator running?`,
      { cause: error },
    )
  })
  const sockets = new Set<Socket>()
  for (const listener of listenersOf(server)) {
    if (maxConnections !== undefined) listener.maxConnections = maxConnections
    listener.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
  }
  const stop = async () => {
    await drain(server)
    // A peer that lost its power answers no goodbye: until TCP gives up, a quarter of an hour later, the socket would keep
    // the process from ending.
    for (const socket of sockets) socket.destroySoon()
  }
  return { server, port, [Symbol.asyncDispose]: stop }
}

/** grpc-js has no option for it, hence the look at its listeners; a version that keeps them elsewhere makes this throw. */
function listenersOf(server: Server): NetServer[] {
  const listeners: unknown = Reflect.get(server, 'http2Servers')
  const found = listeners instanceof Map ? [...listeners.keys()] : []
  if (found.length === 0) throw new Error('the server has no listeners: see where grpc-js keeps them')
  return found.map((listener: unknown) => {
    if (!(listener instanceof NetServer)) throw new Error('a listener of grpc-js is no server of node:net')
    return listener
  })
}

/** Lets calls that run come to their end, for a bounded time; then their connections are cut. */
function drain(server: Server): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      const sessions = sessionsOf(server)
      server.forceShutdown()
      for (const session of sessions) session.destroy()
      resolve()
    }, DRAIN_MS)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/**
 * The connections of a server. grpc-js itself cuts only those that its book-keeping counts, and that is switched off: one
 * that is left open would keep the process from ending.
 */
function sessionsOf(server: Server): Http2Session[] {
  const listeners: unknown = Reflect.get(server, 'http2Servers')
  return [...(listeners instanceof Map ? listeners.values() : [])].flatMap((listener: unknown) => {
    const sessions: unknown = listener instanceof Object ? Reflect.get(listener, 'sessions') : undefined
    return sessions instanceof Set ? [...sessions] : []
  })
}
