import { chmod, mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** The longest path of a unix socket that Linux takes, in bytes. */
export const MAX_SOCKET_BYTES = 107

/**
 * Makes a unix socket that at no moment anybody but its owner may open: it comes to its place from a folder that is for the owner alone.
 * The mask of the process would do as well, and would hold for all that is made meanwhile: folders, and what programs make that are
 * started. `bind` listens on an address of grpc; who listened removes the path when it is done. Throws where the path is too long.
 */
export async function bindPrivately<T>(path: string, bind: (address: string) => Promise<T>): Promise<T> {
  const longest = Math.max(
    ...[path, join(dirname(path), '.xxxxxx', 's')].map(text => Buffer.byteLength(text)),
  )
  if (longest > MAX_SOCKET_BYTES) {
    throw new Error(
      `socket: ${path} is longer than the ${MAX_SOCKET_BYTES} bytes Linux takes; choose a shorter one`,
    )
  }
  const folder = await mkdtemp(join(dirname(path), '.'))
  try {
    const made = join(folder, 's')
    const bound = await bind(`unix:${made}`)
    await chmod(made, 0o600)
    await rename(made, path)
    return bound
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
