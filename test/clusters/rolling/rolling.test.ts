import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import {
  type Rollout,
  type RolloutHost,
  RolloutHostState,
  RolloutState,
} from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf } from '../../../shared/time.ts'
import { whyNoClusters } from '../../lab/clusters/programs.ts'
import { journalOf } from '../../lab/safety/safe-fleet.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { waitUntil } from '../../support/wait-until.ts'
import type { ClusterFleet } from '../muster/cluster-fleet.ts'
import { HOSTS, type Host, SERVERS, WORKERS } from '../muster/rendered-system.ts'
import { readNodes } from '../muster/seen-cluster.ts'
import { type Asker, askConfig, startAsker } from './asker.ts'
import { newestRollout, printFigures, Revisions, startRollingFleet, untilServing } from './rolling-fleet.ts'
import type { AskConfig, Seen } from './seen.ts'

const NEXT = '1.35.4'
const SOAK_SECONDS = 10
const EVERYWHERE = Object.fromEntries(HOSTS.map(host => [host, { kubernetes: true }]))
const why = whyNoClusters()

let made: ClusterFleet
let revisions: Revisions
let config: AskConfig
beforeAll(async () => {
  if (why !== undefined) return
  made = await startRollingFleet()
  revisions = new Revisions(made)
  config = await askConfig(made)
}, SET_UP_MS)
afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

/** Does something while the workload is asked without a pause; what was seen meanwhile. */
async function whileAsked(work: () => Promise<void>): Promise<Seen> {
  await untilServing(made)
  await using asker: Asker = await startAsker(made, config)
  await work()
  return await asker.end()
}

/** Acts of the cluster that were asked for since, as "drain n4". */
async function actsSince(fromMs: number): Promise<readonly string[]> {
  const { acts } = await made.clusters.listClusterActs({ limit: 500 })
  return acts
    .filter(({ asked }) => (millisOf(asked) ?? 0) >= fromMs)
    .map(({ act, host }) => `${act} ${host}`)
    .toSorted()
}

/** Hosts to which a revision was ordered since, as often as it was. */
async function appliedSince(fromMs: number): Promise<readonly string[]> {
  const { operations } = await made.lab.fleet.api.listOperations({ limit: 1_000 })
  return operations
    .filter(({ action, ordered }) => action === 'apply' && (millisOf(ordered) ?? 0) >= fromMs)
    .map(({ host }) => host)
    .toSorted()
}

describe.skipIf(why !== undefined)(`a rolling upgrade of three servers and two workers ${why ?? ''}`, () => {
  it('brings Kubernetes 1.35.4 together with a new system, drains each node once and loses no request', async () => {
    const before = await made.systemsNow()
    await made.editFleetFile(text => text.replace(`version = "${made.version}"`, `version = "${NEXT}"`))
    await revisions.publish(EVERYWHERE, NEXT)
    const fromMs = Date.now()
    const seen = await whileAsked(async () => {
      await made.ok('rollout', 'start', 'newest', '--soak', '0s')
    })
    const rollout = await newestRollout(made)
    await printFigures(made, '1.34.3 to 1.35.4 with a new system', rollout, seen)
    expect(rollout.state).toBe(RolloutState.SUCCEEDED)
    expect(rollout.hosts.map(({ state }) => state)).toEqual(HOSTS.map(() => RolloutHostState.DONE))
    const nodes = await readNodes(made, 'n1')
    expect(nodes).toMatchObject(
      WORKERS.map(name => ({ name, version: NEXT, ready: true, unschedulable: false })),
    )
    const after = await made.systemsNow()
    expect(after.filter(path => before.includes(path))).toEqual([])
    await made.untilVoters(3)
    // Several reasons, one drain; a copy of the datastore before each server.
    expect(await actsSince(fromMs)).toEqual([
      ...WORKERS.map(host => `drain ${host}`),
      ...SERVERS.map(host => `snapshot ${host}`),
      ...WORKERS.map(host => `uncordon ${host}`),
    ])
    expect(seen.asked).toBeGreaterThan(100)
    expect(seen.lost).toEqual([])
    // The pods moved: some that were asked are others than those of the beginning.
    expect(seen.pods.length).toBeGreaterThan(2)
  })

  it('moves Kubernetes again with time to soak, and loses no request', async () => {
    await revisions.publish(EVERYWHERE)
    const seen = await whileAsked(async () => {
      await made.ok('rollout', 'start', 'newest', '--soak', `${SOAK_SECONDS}s`)
    })
    const rollout = await newestRollout(made)
    await printFigures(made, `a new system and Kubernetes, soak ${SOAK_SECONDS} s`, rollout, seen)
    expect(rollout.state).toBe(RolloutState.SUCCEEDED)
    const [from = 0, to = 0] = [millisOf(rollout.started), millisOf(rollout.ended)]
    expect(to - from).toBeGreaterThan(HOSTS.length * SOAK_SECONDS * 1_000)
    expect(seen.lost).toEqual([])
  })

  it('stops where a node fails its gate: that is back on its old system and in use, and nobody follows it', async () => {
    const before = await made.systemsNow()
    await using _gate = await edited(withBrokenGate)
    await revisions.publish({ n4: { kubernetes: true }, n5: { kubernetes: true } })
    const fromMs = Date.now()
    const seen = await whileAsked(async () => {
      const { code } = await made.muster('rollout', 'start', 'newest', '--soak', '0s')
      expect(code).toBe(7)
    })
    const rollout = await newestRollout(made)
    await printFigures(made, 'a node fails its gate', rollout, seen)
    expect(rollout).toMatchObject({
      state: RolloutState.FAILED,
      reason: expect.stringContaining('n4: rolled back'),
    })
    expect(stateOf(rollout, 'n4')).toMatchObject({ state: RolloutHostState.FAILED })
    expect(stateOf(rollout, 'n5')).toMatchObject({ state: RolloutHostState.LEFT })
    expect(await appliedSince(fromMs)).toEqual([...SERVERS, 'n4'])
    expect(await made.systemsNow()).toEqual(before)
    expect(await readNodes(made, 'n1')).toMatchObject(
      WORKERS.map(name => ({ name, version: made.version, ready: true, unschedulable: false })),
    )
    const acts = await actsSince(fromMs)
    expect(acts.filter(act => !act.startsWith('snapshot'))).toEqual(['drain n4', 'uncordon n4'])
    expect(seen.lost).toEqual([])
  })

  it('waits for a server that loses its power in the middle, and goes on with it when it is back', async () => {
    await revisions.publish({ n3: { kubernetes: true }, n4: { kubernetes: true }, n5: { kubernetes: true } })
    const seen = await whileAsked(async () => {
      const id = await begin()
      const operation = await untilPhaseOf(id, 'n3', Phase.KUBERNETES)
      await made.machine('n3').powerCut()
      await made.lab.untilOffline('n3')
      const rollout = await newestRollout(made)
      expect(stateOf(rollout, 'n3')).toMatchObject({ state: RolloutHostState.MOVING, operationId: operation })
      // Whoever comes after it waits, and a second server is touched by nobody.
      expect(movingIn(rollout)).toEqual(['n3'])
      await made.machine('n3').boot()
      await untilOver(id)
    })
    const rollout = await newestRollout(made)
    await printFigures(made, 'a server loses its power', rollout, seen)
    expect(rollout.state).toBe(RolloutState.SUCCEEDED)
    expect(await made.machine('n3').readFile('/etc/lab-revision')).toBe(`${revisions.number}\n`)
    await made.untilVoters(3)
    expect(seen.lost).toEqual([])
  })

  it('gives back a worker that loses its power before it is confirmed, on its old system, and begins nothing more', async () => {
    const before = await made.systemsNow()
    await using _soak = await edited(text => text.replace('[hosts.n4]\n', '[hosts.n4]\nsoak = "20s"\n'))
    await revisions.publish({ n4: { kubernetes: true }, n5: { kubernetes: true } })
    const seen = await whileAsked(async () => {
      const id = await begin()
      await untilPhaseOf(id, 'n4', Phase.PROVE)
      await made.machine('n4').powerCut()
      await made.machine('n4').boot()
      await untilOver(id)
    })
    const rollout = await newestRollout(made)
    await printFigures(made, 'a worker loses its power', rollout, seen)
    expect(rollout).toMatchObject({ state: RolloutState.FAILED, reason: expect.stringContaining('n4: ') })
    expect(await made.systemsNow()).toEqual(before)
    expect(await readNodes(made, 'n1')).toMatchObject(
      WORKERS.map(name => ({ name, ready: true, unschedulable: false })),
    )
    expect(seen.lost).toEqual([])
  })

  it('goes on when the coordinator is killed over a drained node: nothing is done twice, nothing is forgotten', async () => {
    const { fleet } = made.lab
    await revisions.publish({ n4: { kubernetes: true }, n5: { kubernetes: true } })
    const fromMs = Date.now()
    const seen = await whileAsked(async () => {
      const id = await begin()
      await untilPhaseOf(id, 'n4', Phase.VERIFY)
      expect((await readNodes(made, 'n1')).find(({ name }) => name === 'n4')).toMatchObject({
        unschedulable: true,
      })
      await fleet.coordinator?.kill()
      await fleet.startCoordinator()
      await untilOver(id)
    })
    const rollout = await newestRollout(made)
    await printFigures(made, 'the coordinator is killed', rollout, seen)
    expect(rollout.state).toBe(RolloutState.SUCCEEDED)
    expect(await appliedSince(fromMs)).toEqual(HOSTS)
    expect(await actsSince(fromMs)).toEqual([
      ...WORKERS.map(host => `drain ${host}`),
      ...SERVERS.map(host => `snapshot ${host}`),
      ...WORKERS.map(host => `uncordon ${host}`),
    ])
    expect(await readNodes(made, 'n1')).toMatchObject(
      WORKERS.map(name => ({ name, ready: true, unschedulable: false })),
    )
    expect(seen.lost).toEqual([])
  })
})

const stateOf = (rollout: Rollout, host: string) => rollout.hosts.find(one => one.host === host)
/** Hosts that something other than fetching is done to. */
const movingIn = ({ hosts }: Rollout) =>
  hosts
    .filter(({ state, step }) => state === RolloutHostState.MOVING && step !== 'prefetch')
    .map(({ host }) => host)

/** Begins a rollout of the newest revision; its id. */
async function begin(): Promise<string> {
  await made.ok('rollout', 'start', 'newest', '--soak', '0s', '--no-wait')
  return (await newestRollout(made)).id
}

async function untilOver(id: string): Promise<void> {
  await waitUntil(
    `end of rollout ${id}`,
    async () => {
      const { rollout } = await made.lab.fleet.rollouts.getRollout({ id })
      if (rollout?.ended) return true as const
      throw new Error(rollout?.hosts.map(describeHost).join('\n'))
    },
    { timeoutMs: 6 * 60_000, everyMs: 1_000 },
  )
}

const describeHost = ({ host, step, state, waits }: RolloutHost): string =>
  `${host} state ${state} ${step} ${waits.map(({ gate, reason }) => `${gate}: ${reason}`).join('; ')}`

/** Waits until the apply of a host has begun a phase; the operation's id. */
async function untilPhaseOf(rollout: string, host: Host, phase: Phase): Promise<string> {
  return await waitUntil(
    `phase ${phase} of ${host}`,
    async () => {
      const seen = (await made.lab.fleet.rollouts.getRollout({ id: rollout })).rollout
      const { step, operationId } = (seen && stateOf(seen, host)) ?? {}
      if (step !== 'apply' || operationId === undefined || operationId === '') return undefined
      const lines = await journalOf(made.machine(host))
      const isBegun = lines.some(
        line => line.op === operationId && line.kind === 'started' && line.phase === phase,
      )
      return isBegun ? operationId : undefined
    },
    { timeoutMs: 5 * 60_000, everyMs: 50 },
  )
}

const GATE = '\n[gates.broken]\ntcp = "127.0.0.1:9"\n'
const ON_N4 = 'gates = ["broken"]\nconfirm-within = "15s"\n'
/** Nothing listens where n4 is to be asked, and n5 goes after it. */
const withBrokenGate = (text: string) =>
  `${text.replace('[hosts.n4]\n', `[hosts.n4]\n${ON_N4}`).replace('[hosts.n5]\n', '[hosts.n5]\nafter = ["n4"]\n')}${GATE}`

/** Changes the fleet file, and puts it back at the end. */
async function edited(change: (text: string) => string): Promise<AsyncDisposable> {
  const before = await readFile(made.fleetFile, 'utf8')
  await made.editFleetFile(change)
  return { [Symbol.asyncDispose]: async () => await writeFile(made.fleetFile, before) }
}
