import { rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { type Server, ServerCredentials } from '@grpc/grpc-js'
import { hasCode } from '../shared/errors.ts'
import { makeDirectories } from '../shared/make-directories.ts'
import { bindPrivately } from '../shared/rpc/private-socket.ts'
import { type Listener, openListener } from './listener.ts'

/**
 * The socket of root on this machine. Whoever may open it is an operator without further ceremony, so its folder and
 * the socket itself are the access control: 0700 and 0600.
 */
export async function openLocalListener(
  path: string,
  addServices: (server: Server) => void,
): Promise<Listener> {
  const folder = dirname(path)
  await makeDirectories(folder, 0o700)
  if (((await stat(folder)).mode & 0o022) !== 0) {
    throw new Error(
      `socket: ${folder} may be written by others than its owner; use a folder of mode 0755 or less`,
    )
  }
  await removeStale(path)
  const listener = await bindPrivately(
    path,
    async address => await openListener(address, ServerCredentials.createInsecure(), addServices),
  )
  return {
    ...listener,
    async [Symbol.asyncDispose]() {
      await listener[Symbol.asyncDispose]()
      await rm(path, { force: true })
    },
  }
}

/** Removes a socket nobody listens on, and nothing else. */
async function removeStale(path: string): Promise<void> {
  try {
    if (!(await stat(path)).isSocket()) throw new Error(`socket: ${path} is there and is no socket`)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return
    throw error
  }
  const answered = await new Promise<boolean>(resolve => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
  if (answered) throw new Error(`socket: another coordinator listens on ${path}`)
  await rm(path, { force: true })
}
