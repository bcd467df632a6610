import { type Server, ServerCredentials } from '@grpc/grpc-js'

/** Binds a server to a unix socket in a test's own folder. */
export function listenLocally(server: Server, socket: string): Promise<void> {
  return new Promise((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), error =>
      error ? reject(error) : resolve(),
    ),
  )
}
