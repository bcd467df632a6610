import { join } from 'node:path'
import { seedState } from './bench-fleet.ts'
import type { BenchContext } from './context.ts'
import { CoordinatorProcess } from './coordinator-process.ts'
import { percentile } from './statistics.ts'

const QUESTION = "facts.disks.exists(d, d.size > 1500000000000) && facts.system.product == 'MM-100'"
const SELECT = ['facts.os.kernel', 'size(facts.disks)']
const STORED_REPETITIONS = 200
const LIVE_REPETITIONS = 100
/** Of each kind; on a busy machine fewer are asked. */
const LIMIT_MS = 45_000

/** Asks it once, and makes sure that everybody was asked and answered. Gives the milliseconds. */
async function askOnce(coordinator: CoordinatorProcess, machines: number, live: boolean): Promise<number> {
  const began = performance.now()
  let rows = 0
  for await (const { item } of coordinator.operator.query({
    expression: QUESTION,
    select: SELECT,
    live,
    deadline: { seconds: 10n, nanos: 0 },
  })) {
    if (item.case === 'row') rows++
    if (item.case === 'rows') rows += item.value.rows.length
    if (item.case !== 'end') continue
    const { asked, answered, matched, errors } = item.value
    const whole = asked === machines && answered === asked && matched === rows && errors.length === 0
    if (!whole || rows === 0) {
      throw new Error(`the question was answered by ${answered} of ${asked}, ${errors[0]?.reason ?? ''}`)
    }
  }
  return performance.now() - began
}

async function repeat(coordinator: CoordinatorProcess, machines: number, live: boolean): Promise<number[]> {
  const most = live ? LIVE_REPETITIONS : STORED_REPETITIONS
  await askOnce(coordinator, machines, live)
  const times: number[] = []
  const until = performance.now() + LIMIT_MS
  while (times.length < most && performance.now() < until) {
    times.push(await askOnce(coordinator, machines, live))
  }
  return times
}

/** A question that every machine's facts must be looked at for, over the operator's local socket. */
export async function measureQuestions(
  { client, options, note }: BenchContext,
  coordinator: CoordinatorProcess,
): Promise<{ readonly storedMs: number; readonly liveMs: number }> {
  const { agents, profile } = options
  const everyone = { from: 0, count: agents, parallel: 32 }
  await client.ask('open', { ...everyone, port: coordinator.fleetPort })
  const ask = (live: boolean) => repeat(coordinator, agents, live)
  const stored = await coordinator.profiled(profile, 'stored', () => ask(false))
  const live = await coordinator.profiled(profile, 'live', () => ask(true))
  await client.ask('close', everyone)
  const storedMs = percentile(stored, 99)
  const liveMs = percentile(live, 99)
  note(
    `questions: stored p50 ${percentile(stored, 50).toFixed(1)} p99 ${storedMs.toFixed(1)} ms (${stored.length}), ` +
      `live p50 ${percentile(live, 50).toFixed(1)} p99 ${liveMs.toFixed(1)} ms (${live.length})`,
  )
  return { storedMs, liveMs }
}

/** Machines in the store that is asked, and agents that are asked live, however many others are emulated. */
export const STORED_MACHINES = 10_000
export const LIVE_AGENTS = 2_000

/** The same question of a store of 10,000 machines, and of 2,000 connected agents, each with a coordinator of its own. */
export async function measureScale(
  context: BenchContext,
  authorityFrom: string,
): Promise<{ readonly storedMs: number; readonly liveMs: number }> {
  const { places, client, note, options } = context
  const times = async (count: number, live: boolean) => {
    const stateDir = join(places.scratch, `q${count}`)
    await seedState({ from: authorityFrom, stateDir, keys: places.keys, count })
    await using coordinator = await CoordinatorProcess.start(places, stateDir)
    const everyone = { from: 0, count, parallel: 32 }
    if (live) await client.ask('open', { ...everyone, port: coordinator.fleetPort })
    const name = live ? 'live-2k' : 'stored-10k'
    const found = await coordinator.profiled(options.profile, name, () => repeat(coordinator, count, live))
    if (live) await client.ask('close', everyone)
    const [half, most] = [percentile(found, 50), percentile(found, 99)]
    note(`question ${name}: p50 ${half.toFixed(1)} p99 ${most.toFixed(1)} ms (${found.length})`)
    return most
  }
  const storedMs = await times(STORED_MACHINES, false)
  return { storedMs, liveMs: await times(LIVE_AGENTS, true) }
}
