// Rollouts over real processes and mutual TLS: the coordinator is the real program, the nodes are played by the test, so that many
// of them cost nothing.
import { randomInt } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BoundBy } from '../../../shared/gen/muster/v1/machine_pb.ts'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { type Rollout, RolloutState } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { idOf, makeToken, until, untilActive, untilPending } from '../../support/shown.ts'
import { PlayedNode } from './played-node.ts'

let fleet: Fleet
let operator: Operator
let nodes: PlayedNode[]
beforeEach(() => {
  nodes = []
})
afterEach(async () => {
  await Promise.all(nodes.map(node => node[Symbol.asyncDispose]()))
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

const nameOf = (index: number) => `n${String(index + 1).padStart(2, '0')}`

/** A fleet of played nodes outside of clusters, all connected. */
async function start(count: number, settings = ''): Promise<void> {
  // A node that is late with a beat because the machine is busy is not away.
  fleet = await startFleet({ heartbeatSeconds: 5 })
  operator = await addOperator(fleet)
  const names = Array.from({ length: count }, (_, index) => nameOf(index))
  await publish(count, settings)
  nodes = await Promise.all(
    names.map(async host => {
      const machine = await RawMachine.make(fleet)
      await machine.enrol({ token: await makeToken(fleet, { host }) })
      return new PlayedNode(host, machine)
    }),
  )
  for (const node of nodes) node.start()
  await until('all nodes', async () =>
    (await fleet.api.getFleet({})).online === BigInt(count) ? true : undefined,
  )
}

async function publish(count: number, settings = ''): Promise<number> {
  const hosts = Array.from({ length: count }, (_, index) => `[hosts.${nameOf(index)}]\n`).join('')
  const toml = `${settings}${hosts}`
  return (await operator.publish({ toml, files: { 'flake.nix': `# ${randomId()}` } })).number
}

async function begin(settings: object, more: object = {}): Promise<string> {
  const soak = { seconds: 1n }
  const { rollout } = await fleet.rollouts.startRollout({
    requestId: randomId(),
    settings: { maxUnavailable: '10%', soak, canarySoak: soak, ...settings },
    ...more,
  })
  return rollout?.id ?? ''
}

async function shown(id: string): Promise<Rollout> {
  const { rollout } = await fleet.rollouts.getRollout({ id })
  if (!rollout) throw new Error(`no rollout ${id}`)
  return rollout
}

const isOver = ({ state }: Rollout) =>
  state === RolloutState.SUCCEEDED || state === RolloutState.FAILED || state === RolloutState.ABORTED

async function untilOver(id: string, seconds = 150): Promise<Rollout> {
  const untilMs = Date.now() + seconds * 1_000
  while (Date.now() < untilMs) {
    const rollout = await shown(id).catch(() => undefined)
    if (rollout && isOver(rollout)) return rollout
    await pause(200)
  }
  throw new Error(
    `rollout ${id} is not over: ${JSON.stringify((await shown(id)).hosts.map(({ host, step, waits }) => [host, step, waits.map(({ gate }) => gate)]))}`,
  )
}

/** The most that were away at the same time until a rollout was over. */
async function mostAway(id: string): Promise<number> {
  return await mostAwayWhile(async () => await untilOver(id))
}

async function mostAwayWhile(work: () => Promise<unknown>): Promise<number> {
  const stop = new AbortController()
  let most = 0
  const watching = (async () => {
    while (await pause(10, stop.signal)) most = Math.max(most, nodes.filter(({ moving }) => moving).length)
  })()
  await work()
  stop.abort()
  await watching
  return most
}

describe('what was seen live with the nearest peer', () => {
  it('T41, T45: 10 % of 10 hosts move one at a time, though all report at once', async () => {
    await start(10)
    const id = await begin({ soak: { seconds: 0n } })
    expect(await mostAway(id)).toBe(1)
    expect((await shown(id)).state).toBe(RolloutState.SUCCEEDED)
    expect(nodes.map(node => node.changes())).toEqual(nodes.map(() => ['apply 1']))
  })

  it('T41, T59: 10 % of 5 hosts move one at a time, also after their plans were looked at, and when they are named one by one', async () => {
    const settings = '[rollout]\nsoak = "0s"\n'
    await start(5, settings)
    const all = nodes.map(({ host }) => host)
    expect(
      await mostAwayWhile(() => fleet.ok('apply', '--where', 'true', '--plan', '--yes', '--timeout', '2m')),
    ).toBe(1)
    expect(nodes.map(node => node.changes())).toEqual(nodes.map(() => ['apply 1']))
    await publish(5, settings)
    expect(await mostAwayWhile(() => fleet.ok('apply', ...all, '--timeout', '2m'))).toBe(1)
    expect(nodes.map(node => node.changes())).toEqual(nodes.map(() => ['apply 1', 'apply 2']))
  })

  it('is told of a host that was named by hand and did not wait for one that is off, and nobody else goes past the budget', async () => {
    await start(3, '[rollout]\nsoak = "0s"\nsilent-percent = 100\n')
    const [, , third] = nodes
    if (third) third.silent = true
    await until('away', async () => ((await fleet.api.getFleet({})).online === 2n ? true : undefined))
    const id = await begin({}, { refs: ['n01'] })
    await until('its gate', async () =>
      (await shown(id)).hosts[0]?.waits.some(({ gate }) => gate === 'budget') ? true : undefined,
    )
    await fleet.rollouts.abortRollout({ id })
    await untilOver(id)
    expect(nodes.map(node => node.changes())).toEqual([[], [], []])
    await fleet.ok('apply', 'n01', '--timeout', '1m')
    const [rollout] = await fleet.json('rollout', 'list')
    expect((await shown(rollout.id)).hosts).toMatchObject([{ host: 'n01', overridden: ['budget'] }])
    const told = 'gate budget opened for n01: named by hand, and does not wait for who is off by itself: n03'
    expect(await fleet.ok('events')).toContain(told)
    expect(await fleet.ok('rollout', 'show', rollout.id, '-o', 'wide')).toMatch(/^n01 .*budget/m)
  })

  it('N27: a budget of one moves one, though fifty machines report at once, again and again', async () => {
    await start(50)
    const id = await begin({ maxUnavailable: '1', soak: { seconds: 0n } })
    const moved = () => nodes.filter(node => node.changes().length > 0).length
    let most = 0
    const stop = new AbortController()
    const watching = (async () => {
      while (await pause(5, stop.signal)) most = Math.max(most, nodes.filter(({ moving }) => moving).length)
    })()
    for (let times = 1; times <= 3; times++) {
      await until('moves', () => (moved() >= 3 * times ? true : undefined))
      // All of them lose the coordinator in one moment, and come back in another, with all they have to tell.
      await fleet.coordinator?.kill('SIGKILL')
      await fleet.startCoordinator()
    }
    await until('moves', () => (moved() >= 12 ? true : undefined))
    await fleet.rollouts.abortRollout({ id })
    await untilOver(id)
    stop.abort()
    await watching
    expect(most).toBe(1)
    expect(moved()).toBeLessThan(50)
    for (const node of nodes) expect(node.changes().length).toBeLessThanOrEqual(1)
  }, 240_000)

  it('leaves a host out whose system is somebody else’s, when it is for all', async () => {
    await start(2)
    const toml = '[hosts.n01]\n[hosts.n02]\nos = "external"\n'
    await operator.publish({ toml, files: { 'flake.nix': `# ${randomId()}` } })
    const ended = await untilOver(await begin({ soak: { seconds: 0n } }))
    expect(ended.hosts.map(({ host }) => host)).toEqual(['n01'])
    expect(ended.state).toBe(RolloutState.SUCCEEDED)
    expect(nodes.map(node => node.changes())).toEqual([['apply 2'], []])
    // Neither does one that selects it; who names it is told.
    const selected = await untilOver(await begin({ soak: { seconds: 0n } }, { where: 'true' }))
    expect(selected.hosts.map(({ host }) => host)).toEqual(['n01'])
    for (const refs of [['n02'], ['n01', 'n02']])
      await expect(begin({}, { refs })).rejects.toThrow(/n02: no system can be installed there/)
    await expect(
      fleet.api.giveOrders({
        requestId: randomId(),
        refs: ['n02'],
        action: { case: 'apply', value: { revision: 0n } },
      }),
    ).rejects.toThrow(/no system can be installed on n02, it is somebody else's/)
    expect(nodes.map(node => node.changes())[1]).toEqual([])
  })

  it('N31: after a failure no further host is dispatched, and the rollout is over with its reason', async () => {
    await start(5)
    for (const node of nodes) node.outcome = OutcomeClass.ROLLED_BACK
    const rollout = await untilOver(await begin({ maxUnavailable: '1' }))
    await pause(2_000)
    // Of hosts that wait for nothing the one goes first that has built first.
    const changed = nodes.filter(node => node.changes().length > 0)
    expect(changed.map(node => node.changes().length)).toEqual([1])
    expect(rollout).toMatchObject({
      state: RolloutState.FAILED,
      reason: expect.stringContaining(`${changed[0]?.host}: rolled back`),
    })
  })

  it('N28: signing the same fleet again skips no soak', async () => {
    await start(3)
    // Longer than any machine takes to publish.
    const soakMs = 12_000
    const id = await begin({ maxUnavailable: '1', soak: { seconds: BigInt(soakMs / 1_000) } })
    const first = await until('first change', () => nodes.find(({ endedMs }) => endedMs > 0))
    await operator.publish({ toml: '[hosts.n01]\n[hosts.n02]\n[hosts.n03]\n', renew: false })
    const publishedMs = Date.now()
    const second = await until('second change', () =>
      nodes.find(node => node !== first && node.movedAtMs > 0),
    )
    expect(second.movedAtMs - first.endedMs).toBeGreaterThanOrEqual(soakMs)
    expect(second.movedAtMs).toBeGreaterThan(publishedMs)
    expect(second.changes()).toEqual(['apply 1'])
    await fleet.rollouts.abortRollout({ id })
  })

  it('N29: a canary that falls silent does not count as soaked, and nobody follows it', async () => {
    await start(4)
    const id = await begin({ canaries: ['n04'], maxUnavailable: '4', canarySoak: { seconds: 8n } })
    const canary = nodes[3]
    if (!canary) throw new Error('no canary')
    await until('change of the canary', () =>
      canary.changes().length > 0 && !canary.moving ? true : undefined,
    )
    await until('soak', async () =>
      (await shown(id)).hosts.find(({ host, step }) => host === 'n04' && step === 'soak'),
    )
    canary.silent = true
    // Longer than it would have to stay well.
    await pause(10_000)
    expect(nodes.slice(0, 3).map(node => node.changes())).toEqual([[], [], []])
    const waiting = (await shown(id)).hosts.find(({ host }) => host === 'n01')
    expect(waiting?.waits.map(({ gate }) => gate)).toContain('canary')
    canary.silent = false
    expect((await untilOver(id)).state).toBe(RolloutState.SUCCEEDED)
  })
})

describe('a coordinator', () => {
  it('that is killed again and again grants nothing twice, and brings its rollout to an end', async () => {
    await start(6)
    const id = await begin({ maxUnavailable: '2', soak: { seconds: 0n } })
    for (let kill = 0; kill < 5; kill++) {
      await pause(150 + randomInt(400))
      await fleet.coordinator?.kill('SIGKILL')
      await fleet.startCoordinator()
    }
    expect((await untilOver(id)).state).toBe(RolloutState.SUCCEEDED)
    expect(nodes.map(node => node.changes())).toEqual(nodes.map(() => ['apply 1']))
  })

  it('T62: whose store is older than what a node reports grants nothing until an operator looked', async () => {
    await start(2)
    const [first, second] = nodes
    if (!first || !second) throw new Error('no nodes')
    // As after a restore: the node accepted a revision that is on no record here.
    first.silent = true
    await until('away', async () => ((await fleet.api.getFleet({})).online === 1n ? true : undefined))
    first.highestRevision = 7n
    first.highestDigest = 'a'.repeat(64)
    first.silent = false
    await until('halt', async () =>
      (await fleet.rollouts.listRollouts({})).halted === '' ? undefined : true,
    )
    await expect(begin({})).rejects.toThrow('n01 accepted revision 7, the newest here is 1')
    expect((await fleet.api.getFleet({})).problems.join('\n')).toContain('older than what nodes report')
    const accepted = await fleet.ok('rollout', 'accept', '--why', 'revision 7 was lost with the disk')
    expect(accepted).toContain('accepted: n01 accepted revision 7')
    const id = await begin({ maxUnavailable: '2', soak: { seconds: 0n } }, { refs: ['n02'] })
    expect((await untilOver(id)).state).toBe(RolloutState.SUCCEEDED)
  })
})

describe('a coordinator whose store is deleted in the middle of a rollout', () => {
  it('T62: hears from its nodes of what they did, grants nothing, and names the rollout that is lost until an operator has looked', async () => {
    fleet = await startFleet()
    operator = await addOperator(fleet)
    const hosts = ['n01', 'n02', 'n03']
    // It goes on after the first, whose made-up machine has no boot of its own, and stands before the others: not today.
    const day = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getUTCDay() + 3) % 7]
    const shut = `windows = ["${day} 00:00-01:00 UTC"]\n`
    const toml = hosts.map(host => `[hosts.${host}]\n${host === 'n01' ? '' : shut}`).join('')
    await operator.publish({ toml })
    const agents = await Promise.all(
      hosts.map(async host =>
        fleet.addAgent(host, { token: await makeToken(fleet, { host }), config: { allow: ['reboot'] } }),
      ),
    )
    for (const agent of agents) await untilActive(fleet, agent)
    const settings = { onFailure: 'continue', maxUnavailable: '1', soak: { seconds: 0n } }
    const id = await begin(settings, { action: 'reboot', refs: hosts })
    const journal = (at: number) =>
      readFile(join(agents[at]?.stateDir ?? '', 'journal.jsonl'), 'utf8').catch(() => '')
    await until('the end of the first', async () =>
      /"kind":"acknowledged".*"outcome":true/.test(await journal(0)) ? true : undefined,
    )
    expect((await shown(id)).state).toBe(RolloutState.RUNNING)

    await fleet.coordinator?.kill('SIGKILL')
    for (const end of ['', '-wal', '-shm']) {
      await rm(join(fleet.coordinatorState, `store.sqlite${end}`), { force: true })
    }
    await fleet.startCoordinator()
    await operator.giveTrust()
    for (const agent of agents) {
      await untilPending(fleet, agent)
      await fleet.api.approveMachine({ ref: await idOf(agent) })
      await untilActive(fleet, agent)
    }
    // Each says which host it was. Nobody is it for that, before an operator has looked and said so.
    const hostsOf = async () =>
      new Map((await fleet.api.listMachines({ where: '' })).machines.map(one => [one.id, one]))
    const ids = await Promise.all(agents.map(idOf))
    await until('what they say', async () => {
      const shown = await hostsOf()
      return ids.every((id, at) => shown.get(id)?.actedAs === hosts[at]) ? true : undefined
    })
    expect([...(await hostsOf()).values()].map(({ host }) => host)).toEqual(['', '', ''])
    expect((await fleet.muster('status')).stdout).toContain(
      `says that it acted as n02 before, and is bound to no host; if you know that it is, \`muster bind n02 ${ids[1]?.slice(0, 12)}\``,
    )
    expect(await fleet.muster('bind', '--as-before')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('nothing was bound'),
    })
    expect([...(await hostsOf()).values()].map(({ host }) => host)).toEqual(['', '', ''])
    // A machine that was let in without a host, and says that it is one.
    const liar = await RawMachine.make(fleet)
    await liar.enrol({ token: await makeToken(fleet) })
    await using session = await liar.session({ host: 'n03' })
    await session.untilReceived('welcome')
    const disputed = await fleet.muster('bind', '--as-before', '--yes')
    expect(disputed.code).not.toBe(0)
    expect(disputed.stdout).toContain(`so does machine ${ids[2]?.slice(0, 12)}`)
    await fleet.api.evictMachine({ ref: liar.id, reason: 'it is none of ours' })
    await fleet.ok('bind', '--as-before', '--yes')
    const bound = await hostsOf()
    expect(ids.map(id => [bound.get(id)?.host, bound.get(id)?.boundBy])).toEqual(
      hosts.map(host => [host, BoundBy.HAND]),
    )
    expect(await fleet.ok('events')).toContain('host n03 bound by hand')
    const text = `rollout ${id} (reboot) is not in the store: n01 had orders of it`
    await until('what is lost', async () =>
      (await fleet.muster('health')).stdout.includes(text) ? true : undefined,
    )
    expect((await fleet.muster('status')).stdout).toContain(text)
    expect(await fleet.ok('events')).toContain(`n01 has had an order of rollout ${id} (reboot)`)
    const [agent] = agents
    const first = agent && (await idOf(agent))
    const { operations } = await fleet.api.listOperations({})
    expect(operations.map(({ action, machine }) => [action, machine])).toEqual([['reboot', first]])
    expect((await fleet.rollouts.listRollouts({})).rollouts).toEqual([])
    await expect(begin({}, { action: 'reboot', refs: [first] })).rejects.toThrow()
    const accepted = await fleet.ok('rollout', 'accept', '--why', 'its disk is gone')
    expect(accepted).toContain(text)
    expect((await fleet.muster('health')).stdout).not.toContain(id)
    // Nobody was given anything twice, or anything that was not his yet.
    const orders = async (at: number) => (await journal(at)).match(/"kind":"accepted"/g)?.length ?? 0
    expect([await orders(0), await orders(1), await orders(2)]).toEqual([1, 0, 0])
  }, 240_000)
})

describe('gates of the fleet directory', () => {
  it('are asked before each host, after the step before it, and hold the rollout until they are healthy or an operator opens them', async () => {
    await start(3, '[rollout]\nask-gates = "before-each-step"\n')
    const [first, second, third] = nodes
    if (!first || !second || !third) throw new Error('no nodes')
    second.gates = ['healthy', 'unhealthy']
    const id = await begin({ maxUnavailable: '1', soak: { seconds: 0n } })
    const held = async (host: string) =>
      (await shown(id)).hosts
        .find(one => one.host === host)
        ?.waits.map(({ gate, reason }) => `${gate}: ${reason}`)
    await until('the gate', async () =>
      String(await held('n02')).includes('checks: gate g1 is unhealthy') ? true : undefined,
    )
    expect(first.asked).toBeGreaterThan(0)
    // Nobody goes in its place whose gates nobody has asked since; those of the third are healthy, and it goes.
    await until('the third', () => (third.changes().length > 0 ? true : undefined))
    expect(second.changes()).toEqual([])
    second.gates = ['healthy', 'healthy']
    await until('the second', () => (second.changes().length > 0 ? true : undefined))
    expect((await untilOver(id)).state).toBe(RolloutState.SUCCEEDED)

    // Whoever cannot answer is closed, and an operator opens that, which is recorded.
    await publish(3, '[rollout]\nask-gates = "before-each-step"\n')
    second.gates = undefined
    const next = await begin({ maxUnavailable: '1', soak: { seconds: 0n } }, { refs: ['n02'] })
    await until('the wait', async () => {
      const { hosts } = await shown(next)
      return hosts[0]?.waits.some(({ gate }) => gate === 'checks') ? true : undefined
    })
    await pause(3_000)
    expect(second.changes()).toHaveLength(1)
    await fleet.ok('rollout', 'override', next, 'n02', 'checks', '--why', 'its script is broken')
    expect((await untilOver(next)).state).toBe(RolloutState.SUCCEEDED)
    expect(second.changes()).toEqual(['apply 1', 'apply 2'])
    const text = await fleet.ok('events')
    expect(text).toContain('gate checks opened for n02: its script is broken')
  })
})

describe('a restart', () => {
  it('is refused where no Kubernetes runs that could be restarted', async () => {
    await start(1)
    await expect(begin({}, { action: 'restart', refs: ['n01'] })).rejects.toThrow(
      'n01: runs no Kubernetes of a cluster',
    )
    expect(await fleet.muster('restart', 'n01')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('forbids restart'),
    })
  })
})

describe('the command', () => {
  it('starts, shows, pauses and ends a rollout, and tells which gate holds whom', async () => {
    await start(3)
    await fleet.ok('lock', 'n02', '--why', 'a guest runs on it')
    const order = await fleet.json('rollout', 'start', 'newest', '--dry-run', '--max-unavailable', '1')
    expect(order.order.map(({ host, wave }: { host: string; wave: number }) => [host, wave])).toEqual([
      ['n01', 1],
      ['n03', 2],
      ['n02', 0],
    ])
    const begun = await fleet.json(
      'rollout',
      'start',
      'newest',
      // No command is so slow that this ends before the next one.
      '--soak',
      '1h',
      '--max-unavailable',
      '1',
      '--no-wait',
    )
    const first = await until('first change', () => nodes.find(node => node.changes().length > 0))
    const text = await fleet.ok('rollout', 'show', begun.id)
    expect(text).toMatch(/n02 .*waits at lock: locked: a guest runs on it .*muster unlock n02/)
    await fleet.ok('rollout', 'pause', begun.id, '--why', 'lunch')
    expect(await fleet.ok('rollout', 'list')).toMatch(/paused .*paused by local: lunch/)
    await fleet.ok('rollout', 'resume', begun.id)
    await fleet.ok('rollout', 'override', begun.id, first.host, 'soak', '--why', 'it is fine')
    const next = await until('next change', () =>
      nodes.find(node => node !== first && node.changes().length > 0),
    )
    await fleet.ok('rollout', 'override', begun.id, next.host, 'soak', '--why', 'it is fine')
    const watched = await fleet.muster('rollout', 'watch', begun.id)
    expect(watched).toMatchObject({ code: 7, stderr: expect.stringContaining('left behind: n02') })
    expect(nodes[1]?.changes()).toEqual([])
  }, 400_000)
})
