import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Why a port cannot be listened on; undefined: it can, at the moment. */
async function portProblem(host: string, port: number): Promise<string | undefined> {
  const server = createServer()
  try {
    const listening = once(server, 'listening')
    server.listen(port, host)
    await listening
    return undefined
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  } finally {
    server.close()
  }
}

/** Below those that Linux gives to connections by itself, one of which may take a port between its choice and its use. */
const FREE_FROM = 12_000
const FREE_TO = 28_000

/** A port that nobody listens on at the moment, and that was not given out before. Throws when no port was found. */
export async function freePort(host: string, except: readonly number[] = []): Promise<number> {
  let problem: string | undefined
  for (let tries = 0; tries < 100; tries += 1) {
    const port = randomInt(FREE_FROM, FREE_TO)
    if (except.includes(port)) continue
    problem = await portProblem(host, port)
    if (problem === undefined) return port
  }
  throw new Error(`no free port of ${host} between ${FREE_FROM} and ${FREE_TO} (${problem})`)
}

export interface WantedPort {
  readonly option: string
  /** What the person said; it is taken, or nothing is. */
  readonly given: number | undefined
  /** What was used before, or is usual. */
  readonly usual: number
}

export interface ChosenPort {
  readonly port: number
  /** What to tell when it is not the usual one. */
  readonly note: string | undefined
}

/** Chooses a port that can be listened on. Throws with the cure when the one that was asked for cannot be had. */
export async function choosePort(
  host: string,
  wanted: WantedPort,
  except: readonly number[],
): Promise<ChosenPort> {
  const { option, given, usual } = wanted
  const port = given ?? usual
  const problem = except.includes(port) ? 'EADDRINUSE' : await portProblem(host, port)
  if (problem === undefined) return { port, note: undefined }
  if (problem === 'EADDRNOTAVAIL') throw new Error(`--listen ${host}: is no address of this machine`)
  const why = problem === 'EADDRINUSE' ? 'is taken by another program' : `cannot be listened on (${problem})`
  if (given !== undefined) {
    const free = await freePort(host, except)
    throw new Error(`${option} ${given}: ${why}; choose another one, such as ${option} ${free}`)
  }
  const other = await freePort(host, except)
  return { port: other, note: `Port ${usual} ${why}, so ${other} is used instead (${option} N chooses one).` }
}
