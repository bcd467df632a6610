import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below those that Linux gives to connections by itself, one of which may take a port between its choice and its use. */
const FROM = 12_000
/** As many ports for each worker that runs tests beside others, so that no two choose the same one. */
const EACH = 2_000
const WORKERS = 8

let next = randomInt(EACH)

/** A port of the loopback that nobody listens on at the moment, and that no other test was given. */
export async function freePort(): Promise<number> {
  const worker = Number(process.env.VITEST_POOL_ID ?? 0) % WORKERS
  for (let tries = 0; tries < EACH; tries += 1) {
    next = (next + 1) % EACH
    const port = FROM + worker * EACH + next
    if (await isFree(port)) return port
  }
  throw new Error('no free port')
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  try {
    const listening = once(server, 'listening')
    server.listen(port, '127.0.0.1')
    await listening
    return true
  } catch {
    return false
  } finally {
    server.close()
  }
}
