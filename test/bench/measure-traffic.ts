import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BenchFleet, seedState } from './bench-fleet.ts'
import type { BenchContext } from './context.ts'
import { CoordinatorProcess } from './coordinator-process.ts'
import { median } from './statistics.ts'
import { streamOf } from './stream-of.ts'

const PARALLEL = 32
const BEATING = 500
const BEAT_ROUNDS = 4
const BEAT_MS = 4_000
const WARM_UP_MS = 1_500
const FANOUT_ROUNDS = 7
/** On a busy machine fewer rounds are made, so that the whole ends within ten minutes. */
const BEATS_UNTIL_SECONDS = 280
const FANOUT_UNTIL_SECONDS = 360

/** Heartbeats of 500 connected agents at two coordinators, one with 500 machines in its store and one with 5,000. */
export async function measureHeartbeats(
  context: BenchContext,
  authorityFrom: string,
): Promise<{ readonly few: number; readonly many: number }> {
  const { places, client, note, options } = context
  const startWith = async (count: number) => {
    const stateDir = join(places.scratch, `m${count}`)
    await seedState({ from: authorityFrom, stateDir, keys: places.keys, count })
    return await CoordinatorProcess.start(places, stateDir)
  }
  await using small = await startWith(500)
  await using large = await startWith(5_000)
  const connect = (from: number, { fleetPort: port }: CoordinatorProcess) =>
    client.ask('open', { from, count: BEATING, parallel: PARALLEL, port })
  const twins = context.twins
  await connect(0, small)
  await connect(twins, large)
  const rate = async (from: number, coordinator: CoordinatorProcess, ms: number) => {
    const name = `beat-${from === 0 ? 500 : 5000}-${ms}`
    const { perSecond } = await coordinator.profiled(options.profile, name, () =>
      client.ask('beat', { from, count: BEATING, ms }),
    )
    return perSecond
  }
  const few: number[] = []
  const many: number[] = []
  await rate(0, small, WARM_UP_MS)
  await rate(twins, large, WARM_UP_MS)
  for (let round = 0; round < BEAT_ROUNDS && context.mayRepeat(round, BEATS_UNTIL_SECONDS); round++) {
    few.push(await rate(0, small, BEAT_MS))
    many.push(await rate(twins, large, BEAT_MS))
    note(`heartbeats ${few.at(-1)?.toFixed(0)}/s with 500 machines, ${many.at(-1)?.toFixed(0)}/s with 5000`)
  }
  for (const from of [0, twins]) await client.ask('close', { from, count: BEATING })
  return { few: median(few), many: median(many) }
}

/** From the operator's call until every agent has the notice, beside the same bytes over raw streams. */
export async function measureFanout(
  { options, client, startFloor, note, twins, mayRepeat }: BenchContext,
  coordinator: CoordinatorProcess,
  fleet: BenchFleet,
): Promise<{ readonly published: number; readonly bare: number }> {
  const agents = { from: 0, count: options.agents, parallel: PARALLEL }
  const streams = { ...agents, from: twins }
  await using floor = await startFloor()
  await client.ask('open', { ...agents, port: coordinator.fleetPort })
  await client.ask('open', { ...streams, port: floor.http2Port })
  const timed = async (range: typeof agents, length: number, start: () => Promise<unknown>) => {
    await sleep(500)
    const arrived = client.ask('awaitRevision', { ...range, length })
    await client.ask('countConnected', range) // answered after the agents are told to wait
    const began = process.hrtime.bigint()
    const [{ at }] = await Promise.all([arrived, start()])
    return Number(at - began) / 1e9
  }
  const published: number[] = []
  const bare: number[] = []
  for (let round = 0; round < FANOUT_ROUNDS && mayRepeat(round, FANOUT_UNTIL_SECONDS); round++) {
    const { parts, notice } = fleet.nextRevision()
    await floor.worker.ask('load', notice)
    bare.push(await timed(streams, notice.length, () => floor.worker.ask('broadcast', undefined)))
    const publish = () => coordinator.operator.publishRevision(streamOf(parts), { deadlineMs: 60_000 })
    published.push(
      await coordinator.profiled(options.profile, `publish-${round}`, () =>
        timed(agents, notice.length, publish),
      ),
    )
    const [real, floorSeconds] = [published.at(-1) ?? 0, bare.at(-1) ?? 0]
    note(`fan-out of ${notice.length} bytes: ${real.toFixed(3)} s, bare ${floorSeconds.toFixed(3)} s`)
  }
  for (const range of [agents, streams]) await client.ask('close', range)
  return { published: median(published), bare: median(bare) }
}
