import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { untilAborted } from '../../shared/lifecycle.ts'
import { makeDirectories } from '../../shared/make-directories.ts'
import { LockError, lockDirectory } from '../../shared/process-lock.ts'
import type { ChildProgram } from './child-program.ts'
import { addressOf, LocalCoordinator } from './local-coordinator.ts'
import type { StartOptions } from './options.ts'
import { startAgent, untilActive } from './own-agent.ts'
import { type Places, placesBelow } from './places.ts'
import { choosePort } from './ports.ts'
import { readJson } from './read-json.ts'
import { stopSignal } from './stop-signal.ts'
import { alreadyRunningText, type Running, runningText } from './texts.ts'
import { until } from './until.ts'

const USUAL_ENROLMENT_PORT = 7443
const USUAL_FLEET_PORT = 7444
const MAX_SOCKET_BYTES = 107

/** A coordinator and this machine's own agent, until a signal. Gives the exit code. */
export async function runStart(top: string, options: StartOptions): Promise<number> {
  const signal = stopSignal()
  const places = placesBelow(options.state)
  const longest = Math.max(Buffer.byteLength(places.socket), Buffer.byteLength(places.agentSocket))
  if (longest > MAX_SOCKET_BYTES) {
    throw new Error(
      `--state ${options.state}: too long by ${longest - MAX_SOCKET_BYTES} bytes for the sockets in it; choose a shorter folder`,
    )
  }
  try {
    await makeDirectories(options.state, 0o700)
  } catch (error) {
    if (hasCode(error, 'EEXIST') || hasCode(error, 'ENOTDIR'))
      throw new Error(`--state ${options.state}: is no folder, or lies below something that is none`)
    throw new Error(`--state ${options.state}: no folder can be made there: ${reasonOf(error)}`)
  }
  let lock: AsyncDisposable
  try {
    lock = await lockDirectory(options.state, 'npm start')
  } catch (error) {
    if (!(error instanceof LockError))
      throw new Error(`--state ${options.state}: cannot be written to: ${reasonOf(error)}`, { cause: error })
    // It says what it is once it is up; until then only that it is there.
    const running = await readRunning(places.running)
    process.stdout.write(alreadyRunningText(options.state, running, reasonOf(error)))
    return 0
  }
  await using _ = lock
  await rm(places.running, { force: true })
  // A start that was killed leaves children which are ending now.
  for (const folder of [places.coordinatorState, places.agentState]) await untilUnlocked(folder, signal)
  return await run(top, options, places, signal)
}

async function untilUnlocked(folder: string, signal: AbortSignal): Promise<void> {
  // The agent makes its folder itself, and takes one that is there without its content for a loss.
  if (!existsSync(folder)) return
  await until(`${folder}: nobody else uses it`, signal, async () => {
    try {
      await (await lockDirectory(folder, 'program'))[Symbol.asyncDispose]()
      return true
    } catch (error) {
      if (error instanceof LockError) return undefined
      throw error
    }
  })
}

async function run(top: string, options: StartOptions, places: Places, signal: AbortSignal): Promise<number> {
  const { listen } = options
  const saved = await readPorts(places.ports)
  const enrolment = await choosePort(
    listen,
    {
      option: '--enrolment-port',
      given: options.enrolmentPort,
      usual: saved.enrolment ?? USUAL_ENROLMENT_PORT,
    },
    options.fleetPort === undefined ? [] : [options.fleetPort],
  )
  const fleet = await choosePort(
    listen,
    { option: '--fleet-port', given: options.fleetPort, usual: saved.fleet ?? USUAL_FLEET_PORT },
    [enrolment.port],
  )
  await writeFile(places.ports, `${JSON.stringify({ enrolment: enrolment.port, fleet: fleet.port })}\n`)
  const advertised = listen === '0.0.0.0' || listen === '::' ? (ownAddress() ?? '127.0.0.1') : listen
  await using coordinator = new LocalCoordinator({
    top,
    folder: places.coordinator,
    socket: places.socket,
    log: join(places.logs, 'coordinator.log'),
    listen,
    advertised,
    enrolmentPort: enrolment.port,
    fleetPort: fleet.port,
  })
  const { caPin } = await coordinator.start(signal)
  const agent = await startAgent(top, places, addressOf(advertised, enrolment.port), caPin, coordinator)
  try {
    const enrolled = await untilActive(places, coordinator, agent, signal)
    const running: Running = {
      pid: process.pid,
      top,
      state: places.state,
      socket: places.socket,
      enrolment: addressOf(advertised, enrolment.port),
      fleet: addressOf(advertised, fleet.port),
      caPin,
      logs: places.logs,
      machine: enrolled.id.slice(0, 12),
      onlyHere: listen === '127.0.0.1' || listen === '::1',
    }
    await writeFile(places.running, JSON.stringify(running))
    process.stdout.write(runningText(running, [enrolment.note, fleet.note]))
    return await untilStopped(signal, coordinator, agent)
  } catch (error) {
    if (signal.aborted) return 0
    throw error
  } finally {
    await rm(places.running, { force: true })
    await rm(places.token, { force: true })
    await agent.stop()
  }
}

/** Until a signal, which is 0, or until one of the programs ends by itself, which is not. */
async function untilStopped(
  signal: AbortSignal,
  coordinator: LocalCoordinator,
  agent: ChildProgram,
): Promise<number> {
  const programs = [
    ['coordinator', coordinator.child],
    ['agent', agent],
  ] as const
  const broken = await Promise.race([
    untilAborted(signal).then(() => undefined),
    ...programs.map(async ([name, child]) => `the ${name} ${await child?.ended}; see ${child?.logFile}`),
  ])
  if (broken === undefined) {
    process.stdout.write('\nstopping …\n')
    return 0
  }
  console.error(`npm start: ${broken}`)
  return 1
}

async function readPorts(
  path: string,
): Promise<{ enrolment: number | undefined; fleet: number | undefined }> {
  const saved = await readJson(path)
  const port = (value: unknown) =>
    typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536 ? value : undefined
  return { enrolment: port(saved.enrolment), fleet: port(saved.fleet) }
}

async function readRunning(path: string): Promise<Partial<Running>> {
  return await readJson(path)
}

/** The first address of this machine that others may reach. */
function ownAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address
}
