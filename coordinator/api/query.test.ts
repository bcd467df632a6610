import { create, type MessageInitShape, toBinary, toJsonString } from '@bufbuild/protobuf'
import { durationFromMs } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RpcError, unavailable } from '../../shared/errors.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { QueryRequestSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { FactsCache } from '../queries/facts-cache.ts'
import { addMachine, type SampleFleet, START, sampleFleet } from '../revisions/testing/sample-fleet.ts'
import { insertFacts } from '../store/facts.ts'
import { type QueryDeps, query } from './query.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
})
afterEach(() => fleet[Symbol.asyncDispose]())

const idOf = (number: number) => sha256Hex(`machine ${number}`)
const factsOf = (number: number) =>
  create(FactsSchema, {
    system: { vendor: 'Acme', product: number % 2 ? 'N100' : 'R720', serial: `S${number}` },
    cpu: { cores: BigInt(number) },
    disks: [{ name: 'sda', size: 2_000_000_000_000n, serial: `D${number}` }],
  })

async function addMachines(count: number, change: Parameters<typeof addMachine>[2] = {}): Promise<void> {
  await fleet.store.transact(async tx => {
    for (let number = 0; number < count; number++) {
      const facts = toBinary(FactsSchema, factsOf(number))
      await insertFacts(tx, { machine: idOf(number), digest: sha256Hex(facts), at: 1, facts })
      await addMachine({ ...fleet.store, db: tx }, idOf(number), {
        facts_digest: sha256Hex(facts),
        labels: JSON.stringify({ rack: number % 3 === 0 ? 'a' : 'b' }),
        ...change,
      })
    }
  })
}

const OFFLINE: QueryDeps['sessions'] = {
  online: () => false,
  lastMessage: () => undefined,
  probe: () => Promise.reject(unavailable('not online')),
}

async function depsOf(sessions: QueryDeps['sessions'] = OFFLINE): Promise<QueryDeps> {
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const conditions = { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 }
  return { ...fleet, directory, sessions, conditions, factsCache: new FactsCache() }
}

async function ask(deps: QueryDeps, request: MessageInitShape<typeof QueryRequestSchema>) {
  const rows: { machine?: string; values?: string[] }[] = []
  const signal = new AbortController().signal
  for await (const { item } of query(deps)(create(QueryRequestSchema, request), { kind: 'local' }, signal)) {
    if (item?.case === 'row') rows.push(item.value)
    if (item?.case === 'end') return { rows, end: item.value }
  }
  throw new Error('the answer has no end')
}

describe('questions to the store', () => {
  it('finds machines by facts, labels and status and tells the values asked for', async () => {
    await addMachines(20)
    const { rows, end } = await ask(await depsOf(), {
      expression: "facts.cpu.cores >= 16 && facts.system.product == 'N100' && labels.rack == 'b'",
      select: ['facts.cpu.cores', 'facts.disks', 'host', 'status.online', 'status.appliedRevision'],
    })
    const values = rows.map(row => row.values ?? []).toSorted(([a = ''], [b = '']) => Number(a) - Number(b))
    expect(values.map(([cores, , ...others]) => [cores, ...others])).toEqual([
      ['17', '""', 'false', '0'],
      ['19', '""', 'false', '0'],
    ])
    expect(JSON.parse(values[0]?.[1] ?? '')).toMatchObject([{ name: 'sda', size: 2_000_000_000_000 }])
    expect(end).toMatchObject({ asked: 20, answered: 20, matched: 2, silent: [], errors: [] })
  })

  it('names the machines a selector cannot be evaluated for, and counts them neither in nor out', async () => {
    await addMachines(3)
    await addMachine(fleet.store, 'f'.repeat(64))
    const deps = await depsOf()
    const { rows, end } = await ask(deps, { expression: 'facts.cpu.cores >= 1', select: ['facts.nothing'] })
    expect(rows.map(({ values }) => values)).toEqual([['null'], ['null']])
    expect(end.errors).toHaveLength(3)
    expect(end.errors).toContainEqual({ machine: 'f'.repeat(64), reason: expect.stringMatching(/facts/) })
    for (const bad of [
      { expression: 'facts.(' },
      { select: ['nosuch.thing'] },
      { select: Array.from({ length: 33 }, () => 'true') },
      { live: true, deadline: durationFromMs(10) },
    ]) {
      await expect(ask(deps, bad)).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    }
  })

  it('sees new facts at once and keeps the cache within its bound', async () => {
    await addMachines(50)
    const deps = { ...(await depsOf()), factsCache: new FactsCache(1000) }
    expect((await ask(deps, { expression: 'facts.cpu.cores == 7' })).end.matched).toBe(1)
    expect(deps.factsCache.bytes).toBeLessThanOrEqual(1000)
    const facts = toBinary(FactsSchema, factsOf(1007))
    await fleet.store.transact(async tx => {
      await insertFacts(tx, { machine: idOf(7), digest: sha256Hex(facts), at: START.getTime(), facts })
      await tx
        .updateTable('machines')
        .set({ facts_digest: sha256Hex(facts) })
        .where('id', '=', idOf(7))
        .execute()
    })
    const again = { ...(await depsOf()), factsCache: deps.factsCache }
    expect((await ask(again, { expression: 'facts.cpu.cores == 7' })).end.matched).toBe(0)
    expect((await ask(again, { expression: 'facts.cpu.cores == 1007' })).end.matched).toBe(1)
  })

  it('answers for 5,000 machines in well under a second and leaves the event loop room', async () => {
    await addMachines(5000)
    const deps = await depsOf()
    const request = { expression: "facts.disks.exists(d, d.size > 1000) && labels.rack == 'a'" }
    await ask(deps, request)
    const tookMs: number[] = []
    let turns = 0
    const ticking = setInterval(() => turns++, 1)
    for (let time = 0; time < 15; time++) {
      const started = performance.now()
      expect((await ask(deps, request)).end.matched).toBe(1667)
      tookMs.push(performance.now() - started)
    }
    clearInterval(ticking)
    const median = tookMs.toSorted((a, b) => a - b)[7] ?? Number.NaN
    console.log(`5,000 machines from the store: median ${median.toFixed(0)} ms`)
    expect(median).toBeLessThan(500)
    expect(turns).toBeGreaterThan(15)
  })
})

describe('questions asked live', () => {
  it('fleet#8259: ends by the deadline with what came, and names every silent machine', async () => {
    await addMachines(100)
    const dead = new Set([3, 30, 60].map(idOf))
    const absent = new Set([4, 44].map(idOf))
    const deps = await depsOf({
      ...OFFLINE,
      online: machine => !absent.has(machine),
      probe: async (machine, _kind, deadlineMs, signal) => {
        const number = Array.from({ length: 100 }, (_, at) => at).find(at => idOf(at) === machine) ?? 0
        if (number === 50) throw new RpcError(status.FAILED_PRECONDITION, 'lsblk is missing')
        if (number === 51) return '{"cpu": 7}'
        if (!dead.has(machine)) return toJsonString(FactsSchema, factsOf(number))
        return await new Promise<string>((_, reject) => {
          const late = () => reject(new RpcError(status.DEADLINE_EXCEEDED, 'no answer'))
          const timer = setTimeout(late, deadlineMs)
          signal?.addEventListener('abort', () => clearTimeout(timer), { once: true })
        })
      },
    })
    const started = performance.now()
    const { rows, end } = await ask(deps, {
      live: true,
      deadline: durationFromMs(1000),
      select: ['facts.cpu.cores'],
    })
    expect(performance.now() - started).toBeLessThan(3000)
    expect(end).toMatchObject({ asked: 100, answered: 95, matched: 93 })
    expect(end.silent).toEqual([...dead, ...absent].toSorted())
    expect(end.errors?.map(({ machine }) => machine).toSorted()).toEqual([idOf(50), idOf(51)].toSorted())
    expect(rows).toHaveLength(93)
  })

  it('hands on each answer when it comes, before the slowest one', async () => {
    await addMachines(2)
    let release = () => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    const deps = await depsOf({
      ...OFFLINE,
      online: () => true,
      probe: async machine => {
        if (machine === idOf(1)) await held
        return toJsonString(FactsSchema, factsOf(0))
      },
    })
    const request = create(QueryRequestSchema, { live: true })
    const answers = query(deps)(request, { kind: 'local' }, new AbortController().signal)
    const first = await answers.next()
    expect(first.value?.item).toMatchObject({ case: 'row', value: { machine: idOf(0) } })
    release()
    expect((await answers.next()).value?.item).toMatchObject({ value: { machine: idOf(1) } })
    expect((await answers.next()).value?.item.case).toBe('end')
  })
})
