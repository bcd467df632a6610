import { connect, type Socket } from 'node:net'
import { waitUntil } from '../../support/wait-until.ts'

/** Connects to a unix socket that another program is about to make. */
export async function connectSoon(path: string): Promise<Socket> {
  return await waitUntil(`listener at ${path}`, () => connectOnce(path), { timeoutMs: 60_000, everyMs: 50 })
}

function connectOnce(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
    socket.once('error', reject)
  })
}
