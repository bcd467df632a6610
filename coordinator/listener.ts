import { Server, type ServerCredentials } from '@grpc/grpc-js'

/** Idle connections are probed, so that a cable that was pulled is noticed without anybody speaking. */
const OPTIONS = {
  'grpc.keepalive_time_ms': 60_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.max_receive_message_length': 4 * 1024 * 1024,
  'grpc.max_send_message_length': 20 * 1024 * 1024,
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
): Promise<Listener> {
  const server = new Server(OPTIONS)
  addServices(server)
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, credentials, (error, bound) => (error ? reject(error) : resolve(bound)))
  }).catch((error: unknown) => {
    throw new Error(
      `cannot listen on ${address}: ${error instanceof Error ? error.message : String(error)}; is another coordinator running?`,
      { cause: error },
    )
  })
  return { server, port, [Symbol.asyncDispose]: () => drain(server) }
}

/** Lets calls that run come to their end, for a bounded time. */
function drain(server: Server): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      server.forceShutdown()
      resolve()
    }, DRAIN_MS)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
