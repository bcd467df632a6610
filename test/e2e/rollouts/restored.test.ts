// A coordinator on an older copy of its store, in the middle of a rollout that went on after the copy was made. The coordinator is the real
// program over mutual TLS, the nodes are played by the test.
import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { type Rollout, RolloutState } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { events, until } from '../../support/shown.ts'
import { PlayedFleet } from './played-fleet.ts'

const HOSTS = ['n01', 'n02', 'n03', 'n04', 'n05']
const TOML = HOSTS.map(host => `[hosts.${host}]\n`).join('')

let played: PlayedFleet | undefined
afterEach(async () => {
  await played?.[Symbol.asyncDispose]()
  played = undefined
})

/** A rollout that stands after each host until its soak is opened by hand, after the first one. */
async function midRollout(config: object = {}) {
  const fleet = await PlayedFleet.start(TOML, HOSTS, config)
  played = fleet
  const id = await fleet.begin({ soak: { seconds: 3_600n } })
  await untilSoaking(fleet, id)
  return { fleet, id }
}

/** Those that nobody has let go on yet. */
const soaking = ({ hosts }: Rollout) =>
  hosts
    .filter(({ step, overridden }) => step === 'soak' && !overridden.includes('soak'))
    .map(({ host }) => host)

async function untilSoaking(fleet: PlayedFleet, id: string): Promise<string> {
  return await until('a host that soaks', async () => soaking(await fleet.shown(id))[0])
}

/** Lets the rollout take its next host; says which. */
async function goOn(fleet: PlayedFleet, id: string): Promise<string> {
  const host = await untilSoaking(fleet, id)
  await fleet.fleet.rollouts.overrideGate({ id, host, gate: 'soak', why: 'it is fine' })
  return await untilSoaking(fleet, id)
}

const online = async (fleet: PlayedFleet) =>
  await until('all nodes', async () =>
    (await fleet.fleet.api.getFleet({}, { deadlineMs: 2_000 })).online === BigInt(HOSTS.length)
      ? true
      : undefined,
  )

/** Nothing but the halt holds the next host, all nodes are there, and yet none is given anything; then an operator decides. */
async function provesHalted(fleet: PlayedFleet, id: string, why: RegExp) {
  await online(fleet)
  await until(
    'the halt',
    async () => ((await fleet.shown(id)).hosts.length > 0 && (await haltOf(fleet)) !== '') || undefined,
  )
  const before = fleet.changes()
  const first = await untilSoaking(fleet, id)
  await fleet.fleet.rollouts.overrideGate({ id, host: first, gate: 'soak', why: 'it is fine' })
  const next = await until('a host that only the halt holds', async () => {
    const { hosts } = await fleet.shown(id)
    return hosts.find(({ waits }) => waits.length === 1 && waits[0]?.gate === 'halted')
  })
  expect(next.waits[0]?.reason).toMatch(why)
  expect(fleet.changes()).toEqual(before)
  const { fleet: commands } = fleet
  expect((await commands.muster('status')).stdout).toMatch(why)
  expect(await commands.muster('health')).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/store-older/),
  })
  const { stdout } = await commands.muster('health')
  // Once, though the coordinator says it of itself, too.
  expect(stdout.split('\n').filter(line => why.test(line))).toHaveLength(1)
  expect(await commands.ok('rollout', 'show', id)).toMatch(why)
  await expect(fleet.begin({}, { action: 'reboot', refs: ['n05'] })).rejects.toThrow(why)
  expect(fleet.changes()).toEqual(before)

  await until('all that nodes have to tell', async () =>
    [...fleet.nodes.values()].every(node => node.hasTold) ? true : undefined,
  )
  expect(await commands.ok('rollout', 'accept', '--why', 'I looked at all of them')).toContain('accepted: ')
  const ended = await until('the end of the rollout', async () => {
    const rollout = await fleet.shown(id)
    if (rollout.state !== RolloutState.RUNNING) return rollout
    for (const host of soaking(rollout)) {
      await fleet.fleet.rollouts.overrideGate({ id, host, gate: 'soak', why: 'it is fine' })
    }
    return undefined
  })
  expect(ended.state).toBe(RolloutState.SUCCEEDED)
  // What was granted since the copy is granted to nobody once more.
  for (const node of fleet.nodes.values()) expect(node.changes()).toEqual(['apply 1'])
  expect(await haltOf(fleet)).toBe('')
}

const haltOf = async (fleet: PlayedFleet) => (await fleet.fleet.rollouts.listRollouts({})).halted

async function copyStore(fleet: PlayedFleet, from: string, to: string): Promise<void> {
  const { coordinatorState: dir } = fleet.fleet
  for (const end of ['', '-wal', '-shm']) {
    await rm(join(dir, `${to}${end}`), { force: true })
    await copyFile(join(dir, `${from}${end}`), join(dir, `${to}${end}`)).catch(() => {}) // it leaves none when it stops
  }
}

describe('a coordinator that is set back in the middle of a rollout', () => {
  it('T62: by muster restore grants nothing and says why, until an operator has decided', async () => {
    const { fleet, id } = await midRollout()
    const file = join(fleet.fleet.dir, 'copy')
    await fleet.fleet.ok('backup', file)
    await goOn(fleet, id)
    await goOn(fleet, id)
    expect(Object.values(fleet.changes()).filter(changes => changes.length > 0)).toHaveLength(3)
    const told = await fleet.fleet.ok('restore', file, '--yes')
    expect(told).toContain('muster rollout accept')
    await until('the coordinator on its new state', async () =>
      (await events(fleet.fleet)).some(({ class: kind }) => kind === 'store-restored') ? true : undefined,
    )
    await provesHalted(fleet, id, /restored from the backup of 20/)
  }, 240_000)

  it('T62: by a copy of its store that somebody put back by hand sees it in what its nodes were acknowledged since', async () => {
    const { fleet, id } = await midRollout()
    await fleet.fleet.coordinator?.kill('SIGTERM')
    await copyStore(fleet, 'store.sqlite', 'older.sqlite')
    await fleet.fleet.startCoordinator()
    await online(fleet)
    // Nothing is lost, so nothing is in the way.
    const second = await goOn(fleet, id)
    await goOn(fleet, id)
    expect(await haltOf(fleet)).toBe('')
    await fleet.fleet.coordinator?.kill('SIGKILL')
    await copyStore(fleet, 'older.sqlite', 'store.sqlite')
    await fleet.fleet.startCoordinator()
    await provesHalted(
      fleet,
      id,
      /older than what nodes report: n0\d has its journal acknowledged up to record/,
    )
    expect(fleet.node(second).changes().length).toBeGreaterThan(0)
  }, 240_000)

  it('T62: sees it in the record of events too, where no node was ordered anything since', async () => {
    const { fleet, id } = await midRollout({ auditSeconds: 1 })
    await fleet.fleet.coordinator?.kill('SIGTERM')
    await copyStore(fleet, 'store.sqlite', 'older.sqlite')
    await fleet.fleet.startCoordinator()
    await online(fleet)
    await fleet.fleet.ok('lock', 'n05', '--why', 'a guest runs on it')
    const locked = (await events(fleet.fleet)).find(({ reason }) => reason.includes('a guest runs on it'))
    await until('what nodes were shown', () =>
      [...fleet.nodes.values()].every(({ head }) => (head?.id ?? 0n) >= (locked?.id ?? 0n))
        ? true
        : undefined,
    )
    await fleet.fleet.coordinator?.kill('SIGKILL')
    await copyStore(fleet, 'older.sqlite', 'store.sqlite')
    await fleet.fleet.startCoordinator()
    await provesHalted(fleet, id, /older than what nodes report: n0\d was shown (another )?event \d+/)
    // Killed once more, it is no older than what it granted since.
    await fleet.fleet.coordinator?.kill('SIGKILL')
    await fleet.fleet.startCoordinator()
    await online(fleet)
    expect(await haltOf(fleet)).toBe('')
  }, 240_000)
})
