// What a rollout leaves to be done: who was left behind, who is pinned, and what is taken back. The coordinator is the real program over
// mutual TLS, the nodes are played by the test.
import { afterEach, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { type Rollout, RolloutState } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { events, until } from '../../support/shown.ts'
import { PlayedFleet } from './played-fleet.ts'

let played: PlayedFleet | undefined
afterEach(async () => {
  await played?.[Symbol.asyncDispose]()
  played = undefined
})

const gatesOf = ({ hosts }: Rollout, name: string) =>
  hosts.find(({ host }) => host === name)?.waits.map(({ gate }) => gate) ?? []

/** An hour that is not now, by the clocks of UTC. */
function closedWindow(): string {
  const hour = (ahead: number) => String((new Date().getUTCHours() + ahead) % 24).padStart(2, '0')
  return `${hour(6)}:00-${hour(7)}:00 UTC`
}

/** What the coordinator begins by itself goes by the policy of the fleet. */
const QUICK = '[rollout]\nsoak = "0s"\nmax-unavailable = 2\n'
const GROUP = `${QUICK}[groups.edge]
admit = "facts.system.product == 'N100'"
name = "edge-{serial}"
`

describe('who was left behind by a rollout', () => {
  it('is named at its end, and catches up when it is there and free, under the same gates', async () => {
    const fleet = await PlayedFleet.start(`${GROUP}[hosts.n01]\n[hosts.n02]\n[hosts.n03]\n`, ['n01', 'n02'])
    played = fleet
    await fleet.fleet.ok('lock', 'n02', '--why', 'a guest runs on it')
    const whole = await fleet.untilOver(await fleet.begin({}))
    expect(whole).toMatchObject({ state: RolloutState.SUCCEEDED, reason: 'left behind: n02, n03' })
    const reasons = whole.hosts.map(({ host, reason }) => [host, reason])
    expect(reasons).toContainEqual(['n02', 'locked: a guest runs on it, until `muster unlock n02`'])
    const unbound = 'no machine is this host, until a machine is enrolled and bound to it'
    expect(reasons).toContainEqual(['n03', unbound])

    // Both are enrolled since: one that was named, and one that nobody could name.
    const facts = { system: { product: 'N100', serial: 'S7', uuid: '10000000-0000-4000-8000-000000000007' } }
    const [late, edge] = await Promise.all([fleet.add('n03'), fleet.add('edge-s7', facts)])
    for (const node of [late, edge])
      await until('its change', () => (node.changes().length > 0 ? node : undefined))
    expect((await fleet.untilOwn('n03')).why).toContain(`catches up with rollout ${whole.id}`)

    // The lock goes, and a window holds it now: it waits there by name until an operator opens that gate for that host.
    await fleet.publish(`${GROUP}[hosts.n01]\n[hosts.n02]\nwindows = ["${closedWindow()}"]\n[hosts.n03]\n`)
    expect(fleet.changes()).toEqual({ n01: ['apply 1'], n02: [], n03: ['apply 1'], 'edge-s7': ['apply 1'] })
    await fleet.fleet.ok('unlock', 'n02')
    const { id } = await fleet.untilOwn('n02')
    await until('the window', async () =>
      gatesOf(await fleet.shown(id), 'n02').includes('window') ? id : undefined,
    )
    expect(gatesOf(await fleet.shown(id), 'n02')).toEqual(['window'])
    expect(fleet.node('n02').changes()).toEqual([])
    await fleet.fleet.ok('rollout', 'override', id, 'n02', 'window', '--why', 'its guest has left')
    expect(await fleet.untilOver(id)).toMatchObject({
      state: RolloutState.SUCCEEDED,
      hosts: [{ host: 'n02', overridden: ['window'] }],
    })
    expect(fleet.node('n02').changes()).toEqual(['apply 1'])
    const opened = (await events(fleet.fleet)).filter(({ reason }) => reason.includes('gate window opened'))
    expect(opened).toMatchObject([{ class: 'rollout', actor: 'local' }])
    expect(opened[0]?.reason).toMatch(new RegExp(`^rollout ${id} .*opened for n02: its guest has left$`))
  })
})

describe('what a host should be', () => {
  it('is its pin, else what the last rollout that named it says, else the current revision; a pin that ends lets it go', async () => {
    const toml = `${QUICK}[hosts.n01]\n[hosts.n02]\n`
    const fleet = await PlayedFleet.start(toml, ['n01', 'n02'])
    played = fleet
    expect(await fleet.wanted()).toEqual({ n01: 1, n02: 1 })
    await fleet.publish(toml)
    // Nobody was named yet: the fleet's current revision.
    expect(await fleet.wanted()).toEqual({ n01: 2, n02: 2 })
    await fleet.fleet.rollouts.pinHost({
      host: 'n02',
      revision: 1n,
      why: 'its driver fails',
      until: { seconds: BigInt(Math.ceil(Date.now() / 1_000) + 10) },
    })
    const whole = await fleet.untilOver(await fleet.begin({}))
    expect(whole).toMatchObject({ state: RolloutState.SUCCEEDED, reason: 'left behind: n02' })
    const pinned = whole.hosts.find(({ host }) => host === 'n02')
    expect(pinned?.reason).toMatch(
      /^pinned to revision 1: its driver fails, until the pin ends at \S+, or `muster unpin n02`$/,
    )
    await fleet.publish(`${toml}[hosts.n03]\n`)
    await fleet.add('n03')
    expect(await fleet.wanted()).toEqual({ n01: 2, n02: 1, n03: 3 })
    expect(fleet.changes()).toEqual({ n01: ['apply 2'], n02: [], n03: [] })
    const own = await fleet.untilOwn('n02')
    expect((await fleet.untilOver(own.id)).state).toBe(RolloutState.SUCCEEDED)
    expect(fleet.node('n02').changes()).toEqual(['apply 2'])
    expect(await fleet.wanted()).toEqual({ n01: 2, n02: 2, n03: 3 })
  })
})

describe('a failure that is to be taken back', () => {
  it('takes back what was moved, one by one under the same gates, until somebody calls that off', async () => {
    const settings = '[rollout]\nsoak = "4s"\nmax-unavailable = 1\n'
    const fleet = await PlayedFleet.start(`${settings}[hosts.n01]\n[hosts.n02]\n[hosts.n03]\n`, [
      ...['n01', 'n02', 'n03'],
    ])
    played = fleet
    fleet.node('n03').outcome = OutcomeClass.ROLLED_BACK
    const failed = await fleet.untilOver(await fleet.begin({ onFailure: 'revert' }))
    expect(failed).toMatchObject({
      state: RolloutState.FAILED,
      reason: expect.stringContaining('n03: rolled back'),
    })
    const back = await fleet.untilOwn('n01')
    expect(back).toMatchObject({ action: 'rollback', reverts: failed.id, size: 2 })
    await until('the first way back', () =>
      fleet.node('n01').changes().includes('rollback 0') ? back : undefined,
    )
    const waits = await until('the second one waits', async () => {
      const gates = gatesOf(await fleet.shown(back.id), 'n02')
      return gates.length > 0 ? gates : undefined
    })
    expect(waits).toEqual(['budget'])
    await fleet.fleet.ok('rollout', 'abort', back.id, '--why', 'n02 is needed as it is')
    expect(await fleet.untilOver(back.id)).toMatchObject({ state: RolloutState.ABORTED })
    expect(fleet.changes()).toEqual({
      n01: ['apply 1', 'rollback 0'],
      n02: ['apply 1'],
      n03: ['apply 1'],
    })
    // What ran before is right where it went back, the revision where it did not.
    expect(await fleet.wanted()).toEqual({ n01: 0, n02: 1, n03: 1 })
    // Nothing begins it again.
    const rollouts = async () => (await fleet.fleet.rollouts.listRollouts({})).rollouts.length
    expect(await rollouts()).toBe(2)
  })
})
