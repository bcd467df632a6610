import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RolloutPolicySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { type GiveOrdersDeps, giveOrders } from '../api/give-orders.ts'
import { recordReport } from '../operations/record-report.ts'
import { openOperations } from '../store/operations.ts'
import {
  findRollout,
  grantsOfRollouts,
  hostsOfRollouts,
  openRollouts,
  overridesOfRollouts,
} from '../store/rollouts.ts'
import { describeRollouts } from './describe-rollout.ts'
import { waitsOfRow } from './read-record.ts'
import { ANNA, FiveHosts, HOSTS, MACHINES } from './testing/five-hosts.ts'

let five: FiveHosts
beforeEach(async () => {
  five = await FiveHosts.start()
})
afterEach(() => five[Symbol.asyncDispose]())

describe('a rollout', () => {
  describe('of hosts that were named by hand', () => {
    const apply = async (deps: GiveOrdersDeps, refs: readonly string[], change: object = {}) => {
      const action = { case: 'apply', value: {} } as const
      const request = { refs: [...refs], requestId: randomId(), action, ...change }
      return await giveOrders(deps)(create(GiveOrdersRequestSchema, request), ANNA)
    }
    const shown = async (id: string) => {
      const row = await findRollout(five.fleet.store.db, id)
      const rows = row ? [row] : []
      const [rollout] = await describeRollouts(
        five.fleet.store.db,
        rows,
        'full',
        five.fleet.clock.at.getTime(),
      )
      return rollout
    }

    it('N27: moves as many at once as the policy says, and waits until they have stayed well', async () => {
      const { deps, give } = await five.prepare()
      const { operations, rolloutId = '' } = await apply(give, ['n1', 'n2', 'n3'])
      expect(operations?.map(({ host }) => host)).toEqual(['n1'])
      await five.end(deps, ['n1'])
      five.pass(59_000)
      await deps.runner.runNow()
      expect(await five.applies()).toEqual([])
      expect((await shown(rolloutId))?.hosts[1]?.waits.map(({ gate }) => gate)).toEqual(['budget'])
      five.pass(1_000)
      await deps.runner.runNow()
      expect(await five.applies()).toEqual(['n2'])
      // Another word is no way around it.
      expect((await apply(give, ['n4'])).operations).toEqual([])
    })

    it('goes past a budget that only machines use up which are off and were not named, and tells who said so and why', async () => {
      const { deps, give } = await five.prepare()
      five.away.add(MACHINES[4] ?? '')
      expect((await apply(give, ['n1', 'n2'])).operations?.map(({ host }) => host)).toEqual(['n1'])
      const [row] = await openRollouts(five.fleet.store.db)
      const rollout = await shown(row?.id ?? '')
      expect(rollout?.hosts.map(({ host, overridden }) => [host, overridden])).toEqual([
        ['n1', ['budget']],
        ['n2', []],
      ])
      const why = 'named by hand, and does not wait for who is off by itself: n5'
      expect(await overridesOfRollouts(five.fleet.store.db, [row?.id ?? ''])).toMatchObject([
        { host: 'n1', gate: 'budget', by_whom: 'anna', why },
      ])
      const events = await five.fleet.store.db
        .selectFrom('events')
        .selectAll()
        .where('reason', 'like', '%gate budget%')
        .execute()
      expect(events).toMatchObject([
        { actor: 'anna', reason: expect.stringContaining(`gate budget opened for n1: ${why}`) },
      ])
      await five.end(deps, ['n1'])
      expect(await five.applies()).toEqual([])
    })

    it('T59: waits for everything where a selector had found them, though they are listed one by one', async () => {
      const { give } = await five.prepare()
      five.away.add(MACHINES[4] ?? '')
      const { operations, rolloutId = '' } = await apply(give, ['n1', 'n2'], { selected: true })
      expect(operations).toEqual([])
      const rollout = await shown(rolloutId)
      expect(rollout?.hosts.map(({ host, waits }) => [host, waits.map(({ gate }) => gate)])).toEqual([
        ['n1', ['budget']],
        ['n2', ['budget']],
      ])
    })

    it('that only soak gives way to what is ordered of the same hosts, and to a way back, but to nothing else', async () => {
      const { deps, give } = await five.prepare({ maxUnavailable: '2' })
      for (const machine of MACHINES) await five.connect(deps, machine, { allowed: ['apply', 'rollback'] })
      await apply(give, ['n1', 'n2'])
      const [first] = await openRollouts(five.fleet.store.db)
      await five.end(deps, ['n1', 'n2'])
      five.pass(1_000)
      await expect(apply(give, ['n1'])).rejects.toThrow(`rollout ${first?.id} is not over and has host n1`)
      const back = { action: { case: 'rollback', value: {} } }
      expect((await apply(give, ['n1'], back)).operations).toMatchObject([{ host: 'n1' }])
      expect(await findRollout(five.fleet.store.db, first?.id ?? '')).toMatchObject({
        state: 'succeeded',
        reason: expect.stringContaining('anna ordered something else'),
      })
      expect(
        (await hostsOfRollouts(five.fleet.store.db, [first?.id ?? ''])).map(one => one.ended_as),
      ).toEqual(['done', 'done'])
      expect(
        (await grantsOfRollouts(five.fleet.store.db, [first?.id ?? ''])).filter(one => !one.closed),
      ).toEqual([])
      await five.end(deps, ['n1'])
      five.pass(1_000)
      expect((await apply(give, ['n1'])).operations).toMatchObject([{ host: 'n1' }])
    })

    it('takes nobody who is changed just now from the rollout that changes it', async () => {
      const { give } = await five.prepare()
      await apply(give, ['n1'])
      const back = { action: { case: 'rollback', value: {} } }
      await expect(apply(give, ['n1'], back)).rejects.toThrow()
    })
  })

  it.each<[string, MessageInitShape<typeof RolloutPolicySchema>, readonly string[]]>([
    ['of hosts that have some, where nothing is said', {}, ['n1']],
    ['of every host, where that is said', { askGates: true }, ['n1', 'n2']],
    ['of nobody, where that is said', { neverAskGates: true }, []],
  ])('asks the gates of a host before it touches it: %s', async (_, policy, held) => {
    const { deps } = await five.prepare({ maxUnavailable: '2', ...policy }, ['n1'])
    const { rollout } = await five.begin(deps, { refs: ['n1', 'n2'] })
    await five.end(deps, HOSTS)
    const [row] = await openRollouts(five.fleet.store.db)
    const waiting = (await hostsOfRollouts(five.fleet.store.db, [row?.id ?? ''])).filter(({ waits }) =>
      waitsOfRow(waits).some(({ gate }) => gate === 'checks'),
    )
    expect(rollout?.id).toBe(row?.id)
    expect(waiting.map(({ host }) => host)).toEqual(held)
    expect(await five.applies()).toEqual(['n1', 'n2'].filter(host => !held.includes(host)))
  })

  it('T41: has another canary where none of those of the policy is in it, and says so', async () => {
    const { deps } = await five.prepare({ canaries: ['n4'] })
    const { rollout } = await five.begin(deps, {
      refs: ['n1', 'n2', 'n3'],
      settings: { maxUnavailable: '3' },
    })
    await five.end(deps, HOSTS)
    expect(await five.applies()).toEqual(['n1'])
    const events = await five.fleet.store.db.selectFrom('events').select('reason').execute()
    expect(events.map(({ reason }) => reason)).toContain(
      `rollout ${rollout?.id} (apply revision 1) began with 3 hosts; n1 is its canary, for it has none of those that were asked for`,
    )
  })

  it('is refused beside another that has one of its hosts, unless it goes after that', async () => {
    const { deps } = await five.prepare()
    const { rollout } = await five.begin(deps)
    const again = five.begin(deps, { requestId: 'two', refs: ['n1'] })
    await expect(again).rejects.toThrow(`rollout ${rollout?.id} is not over and has host n1`)
    await five.begin(deps, { requestId: 'three', refs: ['n1'], after: [rollout?.id ?? ''] })
    expect(await openRollouts(five.fleet.store.db)).toHaveLength(2)
  })

  it('is refused by a dry run as it would be, and names the rollout it waits for by the start of its id', async () => {
    const { deps } = await five.prepare()
    const { rollout } = await five.begin(deps)
    const id = rollout?.id ?? ''
    for (const dryRun of [true, false]) {
      const beside = five.begin(deps, { requestId: 'two', refs: ['n1'], dryRun })
      await expect(beside).rejects.toThrow(`rollout ${id} is not over and has host n1`)
      const nowhere = five.begin(deps, { requestId: 'two', refs: ['n1'], after: ['nope'], dryRun })
      await expect(nowhere).rejects.toThrow('after: there is no rollout nope')
      await five.begin(deps, { requestId: 'two', refs: ['n1'], after: [id.slice(0, 12)], dryRun })
    }
    const open = await openRollouts(five.fleet.store.db)
    expect(open.map(({ after }) => JSON.parse(after))).toContainEqual([id])
    // The same words again are the same rollout.
    await five.begin(deps, { requestId: 'two', refs: ['n1'], after: [id.slice(0, 12)] })
    expect(await openRollouts(five.fleet.store.db)).toHaveLength(2)
  })

  it('foretells its order and begins nothing', async () => {
    const { deps } = await five.prepare()
    five.away.add(MACHINES[4] ?? '')
    const { order } = await five.begin(deps, { dryRun: true })
    // The one that is away uses a place of the two.
    expect(order?.map(({ host, wave }) => `${host} ${wave}`)).toEqual([
      'n1 1',
      'n2 2',
      'n3 3',
      'n4 4',
      'n5 0',
    ])
    expect(order?.at(-1)?.waits).toEqual(['away: it is not connected', 'budget: 0 of 5 are away'].slice(0, 1))
    expect(await openRollouts(five.fleet.store.db)).toEqual([])
  })

  it('tells beforehand what is planned of each host, and of whom no plan is known that still holds', async () => {
    const { deps, give } = await five.prepare()
    const action = { case: 'apply', value: { revision: 0n, planOnly: true } } as const
    const refs = ['n1', 'n2', 'n3', 'n4']
    await giveOrders(give)(create(GiveOrdersRequestSchema, { refs, requestId: 'plans', action }), ANNA)
    const plan = {
      from: '/nix/store/old',
      to: '/nix/store/new',
      mode: PlanMode.TRIAL_BOOT,
      leftOut: 2,
      rebootReasons: [{ kind: 'kernel', before: '6.1', after: '6.6', required: true }],
      stops: ['a.service'],
      restarts: ['sshd.service', 'nginx.service'],
      starts: ['b.service'],
    }
    for (const operation of await openOperations(five.fleet.store.db, MACHINES)) {
      const known = operation.host === 'n4' ? {} : { plan }
      const outcome = { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE }
      const report = { operationId: operation.id, revision: 1n, outcome, ...known }
      await recordReport(deps, operation.machine, create(OperationReportSchema, report))
    }
    // Somebody has rebuilt n2 since, and n3 only until its next boot.
    const runs = { number: 3, storePath: '/nix/store/by-hand', current: true }
    await five.says(MACHINES[1] ?? '', { generations: [runs] })
    const kept = { number: 3, storePath: '/nix/store/old', profile: true, booted: true }
    await five.says(MACHINES[2] ?? '', { generations: [kept], currentSystem: '/nix/store/test' })
    const { order, notThoughtThrough } = await five.begin(deps, { dryRun: true })
    expect(notThoughtThrough).toBe(0)
    const [first, ...others] = order ?? []
    expect(first).toMatchObject({
      host: 'n1',
      noPlan: '',
      drained: false,
      steps: ['prefetch', 'apply', 'soak'],
      change: {
        mode: PlanMode.TRIAL_BOOT,
        moreUnits: 2,
        rebootReasons: [{ kind: 'kernel', required: true }],
        stops: ['a.service'],
        restarts: ['sshd.service', 'nginx.service'],
        starts: ['b.service'],
      },
    })
    const unplanned = 'nobody has planned this revision there'
    expect(others.map(({ host, change, noPlan }) => [host, change, noPlan])).toEqual([
      ...['n2', 'n3'].map(host => [host, undefined, 'it was planned when another system ran there']),
      ...['n4', 'n5'].map(host => [host, undefined, unplanned]),
    ])
    // What changes no system needs no plan.
    const reboot = await five.begin(deps, { dryRun: true, action: 'reboot', refs: ['n1'] })
    expect(reboot.order).toMatchObject([{ noPlan: '', drained: false }])
  })
})
