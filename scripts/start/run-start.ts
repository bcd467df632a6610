import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/operator_pb.ts'
import { untilAborted } from '../../shared/lifecycle.ts'
import { LockError, lockDirectory } from '../../shared/process-lock.ts'
import { durationFromMs } from '../../shared/time.ts'
import { ChildProgram } from './child-program.ts'
import { addressOf, LocalCoordinator } from './local-coordinator.ts'
import type { StartOptions } from './options.ts'
import { choosePort } from './ports.ts'
import { stopSignal } from './stop-signal.ts'
import { alreadyRunningText, type Running, runningText } from './texts.ts'
import { until } from './until.ts'

const USUAL_ENROLMENT_PORT = 7443
const USUAL_FLEET_PORT = 7444
const MAX_SOCKET_BYTES = 107
const TOKEN_MS = 600_000

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
  await mkdir(options.state, { recursive: true, mode: 0o700 })
  let lock: AsyncDisposable
  try {
    lock = await lockDirectory(options.state, 'npm start')
  } catch (error) {
    if (!(error instanceof LockError)) throw error
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

type Places = ReturnType<typeof placesBelow>

function placesBelow(state: string) {
  return {
    state,
    running: join(state, 'running.json'),
    ports: join(state, 'ports.json'),
    socket: join(state, 'coordinator.sock'),
    coordinator: join(state, 'coordinator'),
    coordinatorState: join(state, 'coordinator/state'),
    agent: join(state, 'agent'),
    agentState: join(state, 'agent/state'),
    agentSocket: join(state, 'agent.sock'),
    token: join(state, 'agent/token'),
    logs: join(state, 'logs'),
  }
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

async function startAgent(
  top: string,
  places: Places,
  address: string,
  caPin: string,
  { api }: LocalCoordinator,
): Promise<ChildProgram> {
  await mkdir(places.agent, { recursive: true, mode: 0o700 })
  const known = await readMachine(places)
  const { machines } = await api.listMachines({ where: '' })
  const isIn = machines.some(
    ({ id, state }) => id === known && (state === MachineState.ACTIVE || state === MachineState.ENROLLED),
  )
  await rm(places.token, { force: true })
  if (!isIn) {
    const { token } = await api.createToken({
      lifetime: durationFromMs(TOKEN_MS),
      uses: 1,
      host: '',
      labels: {},
    })
    await writeFile(places.token, `${token}\n`, { mode: 0o600, flag: 'wx' })
  }
  const config = join(places.agent, 'agent.json')
  await writeFile(
    config,
    JSON.stringify(
      {
        coordinator: address,
        caPin,
        ...(isIn ? {} : { tokenFile: places.token }),
        stateDir: places.agentState,
        socket: places.agentSocket,
        console: join(places.logs, 'agent-console.log'),
        // Whatever is published and ordered: this machine is only looked at.
        activation: 'never',
        retry: { firstMs: 250, mostMs: 2_000, connectMs: 3_000 },
      },
      undefined,
      2,
    ),
  )
  return new ChildProgram({ top, program: 'agent', config, log: join(places.logs, 'agent.log') })
}

async function untilActive(
  places: Places,
  { api }: LocalCoordinator,
  agent: ChildProgram,
  signal: AbortSignal,
): Promise<Machine> {
  return await until(
    'this machine is active',
    signal,
    async () => {
      if (!agent.running) {
        throw new Error(
          `the agent ${await agent.ended}:\n${agent.lastLines.join('\n')}\nAll of it: ${agent.logFile}`,
        )
      }
      const id = await readMachine(places)
      const { machines } = await api.listMachines({ where: '' })
      return machines.find(
        machine => machine.id === id && machine.state === MachineState.ACTIVE && machine.online,
      )
    },
    { withinMs: 120_000 },
  ).catch((error: unknown) => {
    throw signal.aborted ? error : new Error(`${reasonOf(error)}; see ${places.logs}`, { cause: error })
  })
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

/** The id of this machine, once its agent has made a key. */
async function readMachine({ agentState }: Places): Promise<string | undefined> {
  const state = await readJson(join(agentState, 'state.json'))
  return typeof state.machine === 'string' ? state.machine : undefined
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

/** The fields of a file of ours; none when it is missing or damaged, for nothing rests on it. */
async function readJson(path: string): Promise<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'))
    return typeof value === 'object' && value !== null ? Object.fromEntries(Object.entries(value)) : {}
  } catch {
    return {}
  }
}

/** The first address of this machine that others may reach. */
function ownAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address
}
