import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listEventRows } from '../store/events.ts'
import { openStore, type Store } from '../store/store.ts'
import { loadRecord } from './record-store.ts'
import { type ClusterDeps, runCluster, takeObservation, takeReport } from './run-cluster.ts'
import { SecretRelay } from './secret-relay.ts'
import { takeOrder, work } from './testing/simulated-node.ts'
import { makeWorld, observe, type Sealed, TICK_MS, type World } from './testing/simulated-world.ts'

let folder: string
let count = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-run-cluster-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** What stands for the ciphertext: the store must never have seen it. */
const MARK = 'sealed-bytes-of-a-secret'
interface Secret {
  readonly sealed: Sealed
  readonly mark: typeof MARK
}

function depsFor(world: World, store: Store, wantedServers = world.hosts): ClusterDeps<Secret> {
  const clock = { now: () => new Date(world.now) }
  return {
    store,
    clock,
    wanted: name =>
      name === 'home' ? { distribution: world.distribution, hosts: wantedServers } : undefined,
    standingsOf: async ids =>
      new Map(
        ids.flatMap(id => {
          const box = world.boxes.get(id)
          return box ? [[id, { connected: box.up, gone: box.gone, occupied: false }] as const] : []
        }),
      ),
    seen: new Map(),
    relay: new SecretRelay<Secret>(),
    send: (machine, _cluster, orders) => {
      const box = world.boxes.get(machine)
      if (!box?.up) return
      for (const { intent, secret } of orders) takeOrder(world, box, intent, secret?.sealed)
    },
  }
}

/** One tick of made-up agents against the real store: they work, answer, report, and are told. */
async function tick(world: World, deps: ClusterDeps<Secret>): Promise<void> {
  world.now += TICK_MS
  const asOfMs = world.now
  for (const box of world.boxes.values()) if (box.up) work(world, box)
  for (const message of world.messages.splice(0)) {
    if (message.kind !== 'report') continue
    const { operation, report, sealed } = message.report
    const secret = sealed && { sealed, mark: MARK as typeof MARK }
    const { acknowledged } = await takeReport(deps, message.from, 'home', operation, report, secret)
    if (acknowledged) world.boxes.get(message.from)?.outbox.delete(`${operation} ${report.kind}`)
  }
  world.now += 1
  for (const box of world.boxes.values()) {
    if (box.up) await takeObservation(deps, box.id, { asOfMs, ...observe(world, box) })
  }
  await runCluster(deps, 'home')
}

const joined = (world: World) =>
  [...world.boxes.values()].filter(({ data }) => data.kind === 'cluster').length

describe('a cluster that is run over the store', () => {
  it('is whole in the end though the coordinator is killed all the time, and no secret reaches the disk', async () => {
    const world = makeWorld({ seed: 7, servers: 3, workers: 2, distribution: 'k3s' })
    world.faulty = false
    const path = join(folder, `${count++}.sqlite`)
    let starts = 0
    for (let ticks = 0; ticks < 400; starts += 1) {
      await using store = await openStore(path, new Date(world.now))
      const deps = depsFor(world, store)
      for (let n = 0; n < 12; n += 1, ticks += 1) await tick(world, deps)
      for (const file of [path, `${path}-wal`])
        expect((await readFile(file)).includes(MARK), file).toBe(false)
      const { record } = await loadRecord(store.db, 'home')
      if (joined(world) === 5 && record.joins.length === 0) break
    }
    expect(joined(world)).toBe(5)
    expect(world.foundings).toBe(1)
    expect(world.violations).toEqual([])
    expect(starts).toBeGreaterThan(2)
    const works = [...world.clusters.values()].flatMap(({ tokens }) =>
      [...tokens.values()].filter(t => t.works),
    )
    expect(works).toEqual([])
  })

  it('T50: says each thing once when several turns run at the same time, and writes nothing when all is well', async () => {
    const world = makeWorld({ seed: 8, servers: 1, workers: 1, distribution: 'k0s' })
    world.faulty = false
    await using store = await openStore(join(folder, `${count++}.sqlite`), new Date(world.now))
    const deps = depsFor(world, store)
    for (let n = 0; n < 120; n += 1) {
      await tick(world, deps)
      await Promise.all([runCluster(deps, 'home'), runCluster(deps, 'home'), runCluster(deps, 'home')])
    }
    expect(joined(world)).toBe(2)
    const events = await listEventRows(store.db, { limit: 100 })
    const said = events.map(({ reason }) => reason.replace(/,.*/, ''))
    for (const step of ['found', 'mint', 'forget-join']) {
      expect(said.filter(text => text === `home: ${step}`)).toHaveLength(1)
    }
    const { generation } = await loadRecord(store.db, 'home')
    for (let n = 0; n < 20; n += 1) await tick(world, deps)
    expect((await loadRecord(store.db, 'home')).generation).toBe(generation)
  })

  it('founds nothing while a bound server has never enrolled', async () => {
    const world = makeWorld({ seed: 9, servers: 2, workers: 0, distribution: 'k3s' })
    world.faulty = false
    await using store = await openStore(join(folder, `${count++}.sqlite`), new Date(world.now))
    const hosts = [...world.hosts, { host: 's9', role: 'server' as const, machine: 'never-seen' }]
    const deps = depsFor(world, store, hosts)
    for (let n = 0; n < 20; n += 1) await tick(world, deps)
    expect(world.foundings).toBe(0)
    expect((await runCluster(deps, 'home'))?.waiting).toEqual([
      { host: '', reason: { gate: 'server-unknown', host: 's9' } },
    ])
    expect(await runCluster(deps, 'other')).toBeUndefined()
  })
})

describe('the relay of sealed secrets', () => {
  it('holds each until it expires or is dropped, and no more than it may', () => {
    const relay = new SecretRelay<string>()
    relay.put('a', 'x', 100, 0)
    expect(relay.get('a', 99)).toBe('x')
    expect(relay.get('a', 100)).toBeUndefined()
    relay.put('b', 'y', 100, 0)
    relay.drop('b')
    expect(relay.get('b', 0)).toBeUndefined()
    for (let n = 0; n < 2000; n += 1) relay.put(`op${n}`, 'z', 100, 0)
    expect(relay.get('op0', 0)).toBeUndefined()
    expect(relay.get('op1999', 0)).toBe('z')
  })
})
