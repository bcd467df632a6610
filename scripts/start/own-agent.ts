import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { type Machine, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { durationFromMs } from '../../shared/time.ts'
import { ChildProgram } from './child-program.ts'
import type { LocalCoordinator } from './local-coordinator.ts'
import type { Places } from './places.ts'
import { readJson } from './read-json.ts'
import { until } from './until.ts'

const TOKEN_MS = 600_000

/** Starts the agent of this machine; with a token when the coordinator does not have it yet. */
export async function startAgent(
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

/** Waits until the agent is enrolled and was seen over mutual TLS. */
export async function untilActive(
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

/** The id of this machine, once its agent has made a key. */
async function readMachine({ agentState }: Places): Promise<string | undefined> {
  const state = await readJson(join(agentState, 'state.json'))
  return typeof state.machine === 'string' ? state.machine : undefined
}
