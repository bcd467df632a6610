import { setTimeout as sleep } from 'node:timers/promises'
import type { BenchContext } from './context.ts'
import { CoordinatorProcess } from './coordinator-process.ts'
import type { HookCommands } from './hook-commands.ts'
import { residentBytes, withProcessorTime } from './process-figures.ts'
import { median } from './statistics.ts'
import type { Worker } from './worker.ts'

/** Connections that are made at once. */
const PARALLEL = 32
const MEMORY_ROUNDS = 3
/** On a busy machine fewer rounds are made, so that the whole ends within ten minutes. */
const MEMORY_UNTIL_SECONDS = 180
const WARM_UP = 100

/**
 * Enrolments beside bare connects, in turns; each round enrols machines that the coordinator never saw. The first round warms both
 * sides up, and is no figure.
 */
export async function measureEnrolments(
  { client, options, startFloor, note }: BenchContext,
  coordinator: CoordinatorProcess,
  rounds = 5,
): Promise<{ readonly enrolments: number; readonly connects: number }> {
  await using floor = await startFloor()
  const { token = '' } = await coordinator.operator.createToken({
    lifetime: { seconds: 3600n, nanos: 0 },
    uses: options.agents,
  })
  const [tokenId = '', tokenSecret = '', caPin = ''] = token.split('.')
  const door = {
    port: coordinator.enrolmentPort,
    caPem: coordinator.fleet.authorityPem,
    caPin,
    tokenId,
    tokenSecret,
  }
  const enrolments: number[] = []
  const connects: number[] = []
  const share = Math.floor(options.agents / rounds)
  for (let round = 0; round < rounds; round++) {
    const from = round * share
    const count = round === rounds - 1 ? options.agents - from : share
    const bare = await withProcessorTime(floor.worker.pid, () =>
      client.ask('connectOnce', { from, count, parallel: PARALLEL, port: floor.tlsPort }),
    )
    const real = await withProcessorTime(coordinator.process.pid, () =>
      coordinator.profiled(options.profile, `enrol-${round}`, () =>
        client.ask('enrol', { from, count, parallel: PARALLEL, door }),
      ),
    )
    const [enrolled, connected] = [count / real.result.seconds, count / bare.result.seconds]
    if (round > 0) {
      enrolments.push(enrolled)
      connects.push(connected)
    }
    const each = (ms: number) => `${(ms / count).toFixed(2)} ms of the server's processor time each`
    note(
      `${round > 0 ? '' : 'to warm up: '}enrolments ${enrolled.toFixed(0)}/s, ${each(real.processorMs)}; ` +
        `bare connects ${connected.toFixed(0)}/s, ${each(bare.processorMs)}`,
    )
  }
  return { enrolments: median(enrolments), connects: median(connects) }
}

/** What one connected agent costs in resident memory, beside one raw stream. Each round starts new processes. */
export async function measureMemory(
  context: BenchContext,
  stateDir: string,
): Promise<{ readonly agent: number; readonly stream: number }> {
  const { startFloor, places, note, mayRepeat } = context
  const agent: number[] = []
  const stream: number[] = []
  for (let round = 0; round < MEMORY_ROUNDS && mayRepeat(round, MEMORY_UNTIL_SECONDS); round++) {
    await using floor = await startFloor()
    stream.push(
      await memoryPerConnection(
        context,
        { pid: floor.worker.pid, collectGarbage: () => floor.worker.ask('collectGarbage', undefined) },
        floor.http2Port,
      ),
    )
    await using coordinator = await CoordinatorProcess.start(places, stateDir)
    agent.push(await memoryPerConnection(context, measured(coordinator.process), coordinator.fleetPort))
    note(`memory ${kib(agent)} KiB an agent, ${kib(stream)} KiB a raw stream`)
  }
  return { agent: median(agent), stream: median(stream) }
}

const kib = (values: readonly number[]) => ((values.at(-1) ?? 0) / 1024).toFixed(1)

interface Measured {
  readonly pid: number
  collectGarbage(): Promise<unknown>
}

const measured = (worker: Worker<HookCommands>): Measured => ({
  pid: worker.pid,
  collectGarbage: () => worker.ask('collectGarbage', undefined),
})

async function memoryPerConnection(
  { client, options }: BenchContext,
  server: Measured,
  port: number,
): Promise<number> {
  const count = options.agents
  const collect = async () => {
    await server.collectGarbage()
    return await residentBytes(server.pid)
  }
  // The first connections also pay for code and buffers that all share.
  const warmUp = { from: 0, count: Math.min(WARM_UP, count), parallel: PARALLEL }
  await client.ask('open', { ...warmUp, port })
  await client.ask('close', warmUp)
  await sleep(500)
  const before = await collect()
  await client.ask('open', { from: 0, count, parallel: PARALLEL, port })
  await sleep(2_000)
  const after = await collect()
  const connected = await client.ask('countConnected', { from: 0, count })
  await client.ask('close', { from: 0, count })
  if (connected !== count) throw new Error(`only ${connected} of ${count} agents stayed connected`)
  return (after - before) / count
}
