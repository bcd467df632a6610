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
const FANOUT_ROUNDS = 7

/** Heartbeats of 500 connected agents at two coordinators, one with 500 machines in its store and one with 5,000. */
export async function measureHeartbeats(
  context: BenchContext,
  authorityFrom: string,
): Promise<{ readonly few: number; readonly many: number }> {
  const { places, client, note } = context
  const startWith = async (count: number) => {
    const stateDir = join(places.scratch, `m${count}`)
    await seedState({ from: authorityFrom, stateDir, keys: places.keys, count })
    return await CoordinatorProcess.start(places, stateDir)
  }
  await using small = await startWith(500)
  await using large = await startWith(5_000)
  const rate = async ({ fleetPort }: CoordinatorProcess, ms: number) => {
    await client.ask('open', { from: 0, count: BEATING, parallel: PARALLEL, port: fleetPort })
    const { perSecond } = await client.ask('beat', { from: 0, count: BEATING, ms })
    await client.ask('close', { from: 0, count: BEATING })
    return perSecond
  }
  const few: number[] = []
  const many: number[] = []
  for (const coordinator of [small, large]) await rate(coordinator, 1_500)
  for (let round = 0; round < BEAT_ROUNDS; round++) {
    few.push(await rate(small, BEAT_MS))
    many.push(await rate(large, BEAT_MS))
    note(`heartbeats ${few.at(-1)?.toFixed(0)}/s with 500 machines, ${many.at(-1)?.toFixed(0)}/s with 5000`)
  }
  return { few: median(few), many: median(many) }
}

/** From the operator's call until every agent has the notice, beside the same bytes over raw streams. */
export async function measureFanout(
  { options, client, startFloor, note }: BenchContext,
  coordinator: CoordinatorProcess,
  fleet: BenchFleet,
): Promise<{ readonly published: number; readonly bare: number }> {
  const everyone = { from: 0, count: options.agents, parallel: PARALLEL }
  await using floor = await startFloor()
  const published: number[] = []
  const bare: number[] = []
  for (let round = 0; round < FANOUT_ROUNDS; round++) {
    const { parts, notice } = fleet.nextRevision()
    await floor.worker.ask('load', notice)
    bare.push(await timed(floor.http2Port, notice, () => floor.worker.ask('broadcast', undefined)))
    published.push(
      await timed(coordinator.fleetPort, notice, () =>
        coordinator.operator.publishRevision(streamOf(parts), { deadlineMs: 60_000 }),
      ),
    )
    note(
      `fan-out of ${notice.length} bytes each: ${published.at(-1)?.toFixed(3)} s, bare ${bare.at(-1)?.toFixed(3)} s`,
    )
  }
  return { published: median(published), bare: median(bare) }

  async function timed(port: number, notice: Uint8Array, start: () => Promise<unknown>): Promise<number> {
    await client.ask('open', { ...everyone, port })
    await sleep(1_000)
    const arrived = client.ask('awaitRevision', { ...everyone, length: notice.length })
    await client.ask('countConnected', everyone) // answered after the agents are told to wait
    const began = process.hrtime.bigint()
    const [{ at }] = await Promise.all([arrived, start()])
    await client.ask('close', everyone)
    return Number(at - began) / 1e9
  }
}
