import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { authorityIn, BenchFleet, floorCertificate, machineChains } from './bench-fleet.ts'
import type { ClientCommands } from './client.ts'
import { type BenchContext, startFloor } from './context.ts'
import { CoordinatorProcess } from './coordinator-process.ts'
import { type Figures, judgeFigures } from './figures.ts'
import { keyPool } from './key-pool.ts'
import { measureAgent } from './measure-agent.ts'
import { measureEnrolments, measureMemory } from './measure-connections.ts'
import { measureQuestions } from './measure-questions.ts'
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

async function measure(options: BenchOptions, scratch: string): Promise<Figures> {
  const places = placesIn(process.cwd(), scratch)
  const stateDir = join(scratch, 'c')
  const keyCount = Math.max(options.agents, LEAST_KEYS)
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
  let enrolled: Awaited<ReturnType<typeof measureEnrolments>>
  try {
    await first.operator.setFleetTrust({ trust: { envelopes: [fleet.trust.envelope] } })
    enrolled = await measureEnrolments(context, first)
  } finally {
    await first[Symbol.asyncDispose]()
  }
  const memory = await measureMemory(context, stateDir)
  const beats = await measureHeartbeats(context, stateDir)
  const { fanout, questions } = await measureConnected(context, stateDir, fleet)
  const agent = await measureAgent(context)
  return {
    enrolments_per_second: enrolled.enrolments,
    floor_connects_per_second: enrolled.connects,
    memory_per_agent_bytes: memory.agent,
    floor_memory_per_connection_bytes: memory.stream,
    heartbeats_per_second_500: beats.few,
    heartbeats_per_second_5000: beats.many,
    fanout_seconds: fanout.published,
    floor_fanout_seconds: fanout.bare,
    query_stored_p99_ms: questions.storedMs,
    query_live_p99_ms: questions.liveMs,
    agent_idle_rss_bytes: agent.rssBytes,
    agent_idle_cpu_percent: agent.cpuPercent,
  }
}

async function measureConnected(context: BenchContext, stateDir: string, fleet: BenchFleet) {
  await using coordinator = await CoordinatorProcess.start(context.places, stateDir)
  const fanout = await measureFanout(context, coordinator, fleet)
  const questions = await measureQuestions(context, coordinator)
  return { fanout, questions }
}

function printTable(figures: Figures, { agents }: BenchOptions): void {
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
