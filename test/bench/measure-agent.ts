import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeMadeUpRoot } from '../../scripts/made-up-root.ts'
import { MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { BenchContext } from './context.ts'
import { CoordinatorProcess } from './coordinator-process.ts'
import { processorNs, residentBytes } from './process-figures.ts'
import { median } from './statistics.ts'

const SETTLE_MS = 30_000
const IDLE_MS = 60_000
const SAMPLE_MS = 5_000

/** The real agent, enrolled and with nothing to do, at a coordinator that wants a beat each ten seconds. */
export async function measureAgent({
  places,
  note,
}: BenchContext): Promise<{ readonly rssBytes: number; readonly cpuPercent: number }> {
  const dir = join(places.scratch, 'agent')
  await mkdir(join(dir, 'root'), { recursive: true })
  await using coordinator = await CoordinatorProcess.start(places, join(places.scratch, 'own'))
  await writeMadeUpRoot(join(dir, 'hardware'), { seed: 1 })
  const { token } = await coordinator.operator.createToken({
    lifetime: { seconds: 3600n, nanos: 0 },
    uses: 1,
  })
  await writeFile(join(dir, 'token'), token, { mode: 0o600 })
  await writeFile(
    join(dir, 'agent.json'),
    JSON.stringify({
      coordinator: coordinator.fleet.enrolmentAddress,
      tokenFile: join(dir, 'token'),
      stateDir: join(dir, 's'),
      socket: join(dir, 's/agent.sock'),
      factsRoot: join(dir, 'hardware'),
      systemRoot: join(dir, 'root'),
      simulated: true,
    }),
  )
  const log = openSync(join(dir, 'log'), 'w')
  const agent = spawn(process.execPath, [places.program('agent'), '--config', join(dir, 'agent.json')], {
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  const ended = once(agent, 'exit')
  try {
    const { pid } = agent
    if (pid === undefined) throw new Error('the agent could not be started')
    await untilActive(coordinator, () => agent.exitCode !== null)
    await sleep(SETTLE_MS)
    const samples: number[] = []
    const began = performance.now()
    const before = await processorNs(pid)
    while (performance.now() - began < IDLE_MS) {
      await sleep(SAMPLE_MS)
      samples.push(await residentBytes(pid))
    }
    const busyNs = (await processorNs(pid)) - before
    const cpuPercent = (busyNs / ((performance.now() - began) * 1e6)) * 100
    note(`idle agent ${(median(samples) / 1024 ** 2).toFixed(1)} MiB, ${cpuPercent.toFixed(3)} % of a core`)
    return { rssBytes: median(samples), cpuPercent }
  } finally {
    agent.kill('SIGTERM')
    await Promise.race([ended, sleep(10_000, undefined, { ref: false })])
    agent.kill('SIGKILL')
  }
}

async function untilActive(coordinator: CoordinatorProcess, hasEnded: () => boolean): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    const { machines } = await coordinator.operator.listMachines({})
    const [machine] = machines
    if (machine?.state === MachineState.ACTIVE && machine.online) return
    if (hasEnded()) throw new Error('the agent ended; its log stands in its folder')
    await sleep(200)
  }
  throw new Error('the agent did not become active within a minute')
}
