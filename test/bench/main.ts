import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { authorityIn, BenchFleet, floorCertificate, machineChains, seedState } from './bench-fleet.ts'
import type { ClientCommands } from './client.ts'
import { type BenchContext, startFloor } from './context.ts'
import { CoordinatorProcess } from './coordinator-process.ts'
import { type Figures, judgeFigures } from './figures.ts'
import { keyPool } from './key-pool.ts'
import { measureAgent } from './measure-agent.ts'
import { measureEnrolments, measureMemory } from './measure-connections.ts'
import { LIVE_AGENTS, measureQuestions, measureScale } from './measure-questions.ts'
import { measureRollouts } from './measure-rollouts.ts'
import { measureFanout, measureHeartbeats } from './measure-traffic.ts'
import { type BenchOptions, parseOptions, USAGE } from './options.ts'
import { placesIn } from './places.ts'
import { renderTable } from './table.ts'
import { Worker } from './worker.ts'

const began = performance.now()
const note = (text: string) => {
  process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${text}\n`)
}

/** The machines whose heartbeats are counted are emulated too, however few agents were asked for. */
const LEAST_KEYS = 500

async function measure(options: BenchOptions, scratch: string): Promise<Partial<Figures>> {
  const places = placesIn(process.cwd(), scratch)
  const stateDir = join(scratch, 'c')
  const keyCount = Math.max(options.agents, LEAST_KEYS, options.only.has('scale') ? LIVE_AGENTS : 0)
  note(`${keyCount} keys`)
  const keys = await keyPool(places.keys, keyCount)
  await using client = new Worker<ClientCommands>(places.bundle('client'), [], { name: 'the agents' })
  await client.ask('prepare', { keys: places.keys, count: keyCount })
  const fleet = new BenchFleet(options.agents)

  const first = await CoordinatorProcess.start(places, stateDir)
  const authority = await authorityIn(stateDir)
  const chains = machineChains(authority, keys)
  await client.ask('certify', { caPem: authority.certificatePem, chains })
  const certificate = await floorCertificate(authority)
  const context: BenchContext = {
    options,
    places,
    client,
    note,
    twins: keyCount,
    mayRepeat: (round, untilSeconds) => round === 0 || performance.now() - began < untilSeconds * 1000,
    startFloor: () => startFloor(places, certificate),
  }
  const { only } = options
  const figures: Partial<Figures>[] = []
  try {
    await first.operator.setFleetTrust({ trust: { envelopes: [fleet.trust.envelope] } })
    if (only.has('enrolments')) {
      const { enrolments, connects } = await measureEnrolments(context, first)
      figures.push({ enrolments_per_second: enrolments, floor_connects_per_second: connects })
    }
  } finally {
    await first[Symbol.asyncDispose]()
  }
  // The other parts want the machines that the first one enrols.
  if (!only.has('enrolments')) {
    await seedState({ from: stateDir, stateDir, keys: places.keys, count: options.agents })
  }
  if (only.has('memory')) {
    const { agent, stream } = await measureMemory(context, stateDir)
    figures.push({ memory_per_agent_bytes: agent, floor_memory_per_connection_bytes: stream })
  }
  if (only.has('heartbeats')) {
    const { few, many } = await measureHeartbeats(context, stateDir)
    figures.push({ heartbeats_per_second_500: few, heartbeats_per_second_5000: many })
  }
  if (only.has('fanout') || only.has('questions')) {
    figures.push(await measureConnected(context, stateDir, fleet))
  }
  if (only.has('scale')) {
    const { storedMs, liveMs } = await measureScale(context, stateDir)
    figures.push({ query_stored_10k_p99_ms: storedMs, query_live_2k_p99_ms: liveMs })
  }
  if (only.has('agent')) {
    const { rssBytes, cpuPercent } = await measureAgent(context)
    figures.push({ agent_idle_rss_bytes: rssBytes, agent_idle_cpu_percent: cpuPercent })
  }
  if (only.has('rollouts')) figures.push({ rollout_plan_10k_ms: measureRollouts(context).planMs })
  return Object.assign({}, ...figures)
}

async function measureConnected(
  context: BenchContext,
  stateDir: string,
  fleet: BenchFleet,
): Promise<Partial<Figures>> {
  await using coordinator = await CoordinatorProcess.start(context.places, stateDir)
  const { only } = context.options
  const figures: Partial<Figures>[] = []
  if (only.has('fanout')) {
    const { published, bare } = await measureFanout(context, coordinator, fleet)
    figures.push({ fanout_seconds: published, floor_fanout_seconds: bare })
  }
  if (only.has('questions')) {
    const { storedMs, liveMs } = await measureQuestions(context, coordinator)
    figures.push({ query_stored_p99_ms: storedMs, query_live_p99_ms: liveMs })
  }
  return Object.assign({}, ...figures)
}

function printTable(figures: Partial<Figures>, { agents }: BenchOptions): void {
  const judged = judgeFigures(figures)
  const mark = (aim: string, met: boolean) => (aim === '' ? '' : met ? 'met' : 'MISSED')
  const [cpu] = cpus()
  console.log(
    `\n${agents} emulated agents on ${cpus().length} cores (${cpu?.model.trim() ?? 'unknown'}), ` +
      `${Math.round(totalmem() / 1024 ** 3)} GiB, Node ${process.versions.node}\n`,
  )
  console.log(
    renderTable([
      ['figure', 'measured', 'beside', 'aim', ''],
      ...judged.map(({ name, shown, beside, aim, met }) => [name, shown, beside, aim, mark(aim, met)]),
    ]),
  )
  const missed = judged.filter(({ met }) => !met).length
  console.log(`\n${missed === 0 ? 'all aims met' : `${missed} aims MISSED`}`)
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') return console.log(USAGE)
  const scratch = await mkdtemp(join(tmpdir(), 'mb-'))
  try {
    const figures = await measure(options, scratch)
    printTable(figures, options)
    if (options.json !== undefined)
      await writeFile(options.json, `${JSON.stringify(figures, undefined, 2)}\n`)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

try {
  await main()
} catch (error) {
  process.stderr.write(`bench: ${reasonOf(error)}\n`)
  if (error instanceof Error && error.cause) process.stderr.write(`bench: because ${reasonOf(error.cause)}\n`)
  process.exitCode = 1
}
