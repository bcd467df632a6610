import type { BenchContext } from './context.ts'
import type { CoordinatorProcess } from './coordinator-process.ts'
import { percentile } from './statistics.ts'

const QUESTION = "facts.disks.exists(d, d.size > 1500000000000) && facts.system.product == 'MM-100'"
const SELECT = ['facts.os.kernel', 'size(facts.disks)']
const STORED_REPETITIONS = 200
const LIVE_REPETITIONS = 100
/** Of each kind; on a busy machine fewer are asked. */
const LIMIT_MS = 45_000

/** A question that every machine's facts must be looked at for, over the operator's local socket. */
export async function measureQuestions(
  { client, options, note }: BenchContext,
  coordinator: CoordinatorProcess,
): Promise<{ readonly storedMs: number; readonly liveMs: number }> {
  const everyone = { from: 0, count: options.agents, parallel: 32 }
  await client.ask('open', { ...everyone, port: coordinator.fleetPort })
  const ask = async (live: boolean) => {
    const began = performance.now()
    let rows = 0
    for await (const { item } of coordinator.operator.query({
      expression: QUESTION,
      select: SELECT,
      live,
      deadline: { seconds: 10n, nanos: 0 },
    })) {
      if (item.case === 'row') rows++
      if (item.case !== 'end') continue
      const { asked, answered, matched, errors } = item.value
      const whole = asked === options.agents && answered === asked && matched === rows && errors.length === 0
      if (!whole || rows === 0) {
        throw new Error(`the question was answered by ${answered} of ${asked}, ${errors[0]?.reason ?? ''}`)
      }
    }
    return performance.now() - began
  }
  for (const live of [false, true]) await ask(live)
  const repeat = async (live: boolean, most: number) => {
    const times: number[] = []
    const until = performance.now() + LIMIT_MS
    while (times.length < most && performance.now() < until) times.push(await ask(live))
    return times
  }
  const { profile } = options
  const stored = await coordinator.profiled(profile, 'stored', () => repeat(false, STORED_REPETITIONS))
  const live = await coordinator.profiled(profile, 'live', () => repeat(true, LIVE_REPETITIONS))
  await client.ask('close', everyone)
  const storedMs = percentile(stored, 99)
  const liveMs = percentile(live, 99)
  note(
    `questions: stored p50 ${percentile(stored, 50).toFixed(1)} p99 ${storedMs.toFixed(1)} ms (${stored.length}), ` +
      `live p50 ${percentile(live, 50).toFixed(1)} p99 ${liveMs.toFixed(1)} ms (${live.length})`,
  )
  return { storedMs, liveMs }
}
