import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate, timestampMs } from '@bufbuild/protobuf/wkt'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HelloSchema, NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { RolloutPolicySchema, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import {
  AcceptRestoreRequestSchema,
  OverrideGateRequestSchema,
  RolloutSchema,
  RolloutState,
  StartRolloutRequestSchema,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import type { Caller } from '../api/caller.ts'
import { evictMachine } from '../api/evict-machine.ts'
import { type GiveOrdersDeps, giveOrders } from '../api/give-orders.ts'
import { publishRevision } from '../api/publish-revision.ts'
import { ownHostBackup } from '../backup/own-host-backup.ts'
import { admitSession } from '../machines/admit-session.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { recordStatus } from '../machines/record-status.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { pendingOrders } from '../operations/orders.ts'
import { recordReport } from '../operations/record-report.ts'
import { FactsCache } from '../queries/facts-cache.ts'
import {
  addMachine,
  type SampleFleet,
  sampleFleet,
  sampleRevision,
  streamOf,
  targetOf,
} from '../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../store/events.ts'
import { openOperations } from '../store/operations.ts'
import {
  findRollout,
  grantsOfRollouts,
  hostsOfRollouts,
  listRolloutRows,
  openRollouts,
  overridesOfRollouts,
} from '../store/rollouts.ts'
import { acceptRestore } from './api/accept-restore.ts'
import { abortRollout, overrideGate, pauseRollout, resumeRollout } from './api/change-rollout.ts'
import { lockHost, unlockHost } from './api/locks.ts'
import { revertRollout } from './api/revert-rollout.ts'
import { getRollout } from './api/show-rollouts.ts'
import { startRollout } from './api/start-rollout.ts'
import { catchUp } from './catch-up.ts'
import { NO_CLUSTERS } from './cluster-source.ts'
import { describeRollouts } from './describe-rollout.ts'
import type { EngineDeps, RolloutEngine } from './engine.ts'
import { readLostRollouts } from './lost-rollouts.ts'
import { PendingHosts } from './pending-hosts.ts'
import { waitsOfRow } from './read-record.ts'
import { readSnapshot } from './read-snapshot.ts'
import { beginDueReverts } from './revert-rollout.ts'
import { testEngine } from './testing/test-engine.ts'

const ANNA: Caller = { kind: 'operator', id: 'a'.repeat(64), name: 'anna' }
const HOSTS = ['n1', 'n2', 'n3', 'n4', 'n5']
const MACHINES = HOSTS.map((_, index) => `0${index}${String(index).repeat(62)}`)
const log = pino({ level: 'silent' })

let fleet: SampleFleet
let away: Set<string>
beforeEach(async () => {
  fleet = await sampleFleet()
  away = new Set()
})
afterEach(() => fleet[Symbol.asyncDispose]())

/** What a machine last told of itself. */
async function says(machine: string, status: MessageInitShape<typeof NodeStatusSchema>): Promise<void> {
  const bytes = Buffer.from(toBinary(NodeStatusSchema, create(NodeStatusSchema, status)))
  await fleet.store.db.updateTable('machines').set({ node_status: bytes }).where('id', '=', machine).execute()
}

/** Five hosts outside of clusters, all of them connected, and a real engine around them. */
async function prepare(
  policy: MessageInitShape<typeof RolloutPolicySchema> = {},
  gated: readonly string[] = [],
) {
  const rollout = create(RolloutPolicySchema, policy)
  const probe = { case: 'tcp', value: { address: '127.0.0.1:80' } } as const
  const safety = create(SafetySchema, { gates: [{ name: 'web', probe }] })
  const targets = HOSTS.map((host, index) => ({
    ...targetOf(fleet.fleetId, host, { machine: MACHINES[index] ?? '' }),
    ...(gated.includes(host) && { safety }),
  }))
  const publish = publishRevision({ ...fleet, log, onPublished: () => {} })
  const signal = new AbortController().signal
  await publish(streamOf(sampleRevision(fleet, undefined, { targets, rollout }).messages), ANNA, signal)
  for (const id of MACHINES) await addMachine(fleet.store, id)
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const operationFeed = new ChangeFeed()
  const own: Pick<EngineDeps, 'ownHost' | 'ownHostBackup'> = {
    ownHost: () => undefined,
    ownHostBackup: ownHostBackup({ ...fleet, stateDir: fleet.folder }),
  }
  const live = (machine: string) =>
    away.has(machine) ? undefined : { instance: 'one', bootId: 'b', disputed: false, startedMs: 0 }
  const sessions = { live, machines: () => MACHINES.filter(machine => !away.has(machine)) }
  const open = async (change: Partial<typeof own> = {}): Promise<RolloutEngine> =>
    await testEngine({ ...fleet, ...own, ...change, directory, operationFeed, sessions })
  const engine = await open()
  const give: GiveOrdersDeps = {
    ...fleet,
    directory,
    operationFeed,
    log,
    ...own,
    rollouts: engine,
    sessions: { online: () => true, lastMessage: () => undefined, wake: () => {} },
    conditions: { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 },
    factsCache: new FactsCache(),
  }
  const deps = {
    ...give,
    ...engine,
    sessions: { ...give.sessions, ...sessions },
    clusters: NO_CLUSTERS,
    rolloutFeed: new ChangeFeed(),
    onRolloutsChanged: () => engine.runner.changed(),
  }
  return { deps, give, engine, open }
}

type Deps = Awaited<ReturnType<typeof prepare>>['deps']

async function begin(deps: Deps, change: object = {}) {
  const request = create(StartRolloutRequestSchema, {
    requestId: 'one',
    settings: { maxUnavailable: '2', soak: { seconds: 60n } },
    ...change,
  })
  return await startRollout(deps)(request, ANNA)
}

/** Takes the prefetches and orders that are open as done, as far as their hosts are named. */
async function end(deps: Deps, hosts: readonly string[], kind: OutcomeClass = OutcomeClass.SUCCEEDED) {
  for (const operation of await openOperations(fleet.store.db, MACHINES)) {
    if (!hosts.includes(operation.host)) continue
    const report = create(OperationReportSchema, {
      operationId: operation.id,
      revision: BigInt(operation.revision),
      outcome: { class: operation.action === 'plan' ? OutcomeClass.SUCCEEDED : kind, phase: Phase.DONE },
    })
    await recordReport(deps, operation.machine, report)
  }
  await deps.runner.runNow()
}

async function applies(): Promise<readonly string[]> {
  const open = await openOperations(fleet.store.db, MACHINES)
  return open
    .filter(({ action }) => action === 'apply')
    .map(({ host }) => host)
    .toSorted()
}

const pass = (ms: number) => {
  fleet.clock.at = new Date(fleet.clock.at.getTime() + ms)
}

/** What the machine of a host says when it connects. */
async function connect(
  deps: Deps,
  machine: string,
  said: { allowed: readonly string[]; bootCount?: bigint },
) {
  const hello = create(HelloSchema, {
    version: '0.1.0',
    protocolMin: PROTOCOL_MIN,
    protocolMax: PROTOCOL_MAX,
    now: timestampFromDate(fleet.clock.at),
    bootId: `b${said.bootCount ?? 1n}`,
    bootCount: said.bootCount ?? 1n,
    allowed: [...said.allowed],
  })
  expect((await admitSession(deps, machine, hello, '10.0.0.9')).kind).toBe('ok')
}

describe('a rollout', () => {
  it('boots nobody who has booted since it began, and keeps when a gate was opened', async () => {
    const { deps } = await prepare()
    for (const machine of MACHINES) await connect(deps, machine, { allowed: ['reboot'] })
    const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'a guest' } as const
    await lockHost(deps)(lock, ANNA)
    const { rollout: { id = '' } = {} } = await begin(deps, {
      action: 'reboot',
      refs: ['n1', 'n2'],
      settings: { maxUnavailable: '2', soak: { seconds: 0n } },
    })
    const given = async () => (await openOperations(fleet.store.db, MACHINES)).map(({ host }) => host)
    expect(await given()).toEqual(['n2'])
    await connect(deps, MACHINES[0] ?? '', { allowed: ['reboot'], bootCount: 2n })
    const open = { id, host: 'n1', gate: 'lock', why: 'it is fine' }
    await overrideGate(deps)(create(OverrideGateRequestSchema, open), ANNA)
    expect(await given()).toEqual(['n2'])
    const grants = (await grantsOfRollouts(fleet.store.db, [id])).filter(({ host }) => host === 'n1')
    expect(grants).toMatchObject([
      { step: 'act', outcome: 'skipped', reason: 'it has booted since the rollout began' },
      { step: 'soak', outcome: 'done' },
    ])
    const { snapshot } = await readSnapshot({ ...deps, clusters: NO_CLUSTERS }, fleet.clock.at.getTime())
    expect(snapshot.rollouts[0]?.overriddenMs).toEqual(new Map([['n1 lock', fleet.clock.at.getTime()]]))
  })

  it('T62: that the store has lost is named by the nodes that had its orders, until an operator has looked', async () => {
    const { deps, engine } = await prepare()
    const { rollout: { id = '' } = {} } = await begin(deps)
    const [first = '', second = ''] = MACHINES
    const [order] = await pendingOrders(fleet.store.db, first, fleet.clock.now())
    expect(order?.rollout).toEqual({ id, action: 'apply', revision: 1n, host: 'n1' })
    const tell = async (machine: string, operationId: string, reference: object) => {
      const report = create(OperationReportSchema, {
        operationId,
        revision: 1n,
        action: 'plan',
        ...reference,
      })
      await recordReport({ ...deps, nodes: engine.nodes }, machine, report)
    }
    const lost = () => readLostRollouts(fleet.store.db)
    // What is on record is not lost, and what an operation of ours says of a rollout is nothing new.
    await tell(first, 'other', { rollout: { id, action: 'apply', revision: 1n, host: 'n1' } })
    await tell(first, order?.operationId ?? '', { rollout: { id: 'r0', action: 'apply', host: 'n1' } })
    await tell(first, 'strange', { rollout: { id: '../x', action: 'apply', host: 'n1' } })
    const gone = { id: 'r0', action: 'apply', revision: 7n }
    await tell(first, 'one', { rollout: { ...gone, host: 'n1' } })
    await tell(second, 'two', { rollout: { ...gone, host: 'not a host!' } })
    await expect.poll(lost).toMatchObject([{ id: 'r0', revision: 7, hosts: ['n1', 'n2'] }])
    const events = await fleet.store.db
      .selectFrom('events')
      .select('reason')
      .where('class', '=', 'rollout-lost')
      .execute()
    expect(events).toEqual([
      { reason: 'n1 has had an order of rollout r0 (apply revision 7), which is not in the store' },
    ])
    const accept = acceptRestore(deps)
    const why = create(AcceptRestoreRequestSchema, { why: 'its disk is gone' })
    const accepted = (await accept(why, ANNA)).accepted
    expect(accepted).toContain('rollout r0 (apply revision 7) is not in the store: n1, n2 had orders of it')
    expect(await lost()).toEqual([])
    await expect(accept(why, ANNA)).rejects.toThrow('nothing to accept')
  })

  it.each(['open', 'done', 'failed'] as const)(
    'grants nothing twice that only a node knows that it was granted: %s',
    async how => {
      const { deps, engine } = await prepare()
      const settings = { maxUnavailable: '2', soak: { seconds: 0n }, onFailure: 'continue' }
      const { rollout: { id = '' } = {} } = await begin(deps, { settings })
      // The copy is of when all had only planned; n2 was changed after that.
      const outcome = {
        open: undefined,
        done: { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE },
        failed: { class: OutcomeClass.ROLLED_BACK, phase: Phase.DONE },
      }[how]
      const tell = async (end: typeof outcome, operationId = 'lost', reference: object = {}) => {
        const rollout = { id, action: 'apply', revision: 1n, host: 'n2', ...reference }
        const init = { operationId, revision: 1n, action: 'apply' }
        const report = create(OperationReportSchema, { ...init, rollout, ...(end && { outcome: end }) })
        await recordReport({ ...deps, nodes: engine.nodes }, MACHINES[1] ?? '', report)
      }
      // Another machine, another action, another revision: nothing follows of that.
      await tell(outcome, 'other-1', { host: 'n3' })
      await tell(outcome, 'other-2', { action: 'reboot' })
      await tell(outcome, 'other-3', { revision: 17n })
      const acts = async () =>
        (await grantsOfRollouts(fleet.store.db, [id])).filter(({ step }) => step === 'act')
      expect(await acts()).toEqual([])
      await tell(outcome)
      expect(await acts()).toMatchObject([{ host: 'n2', operation: 'lost', attempt: 1 }])
      await expect.poll(engine.halted).toContain('which is not on record')
      await acceptRestore(deps)(create(AcceptRestoreRequestSchema, { why: 'looked' }), ANNA)
      for (let round = 0; round < 12; round++) {
        await end(
          deps,
          HOSTS.filter(host => host !== 'n2'),
        )
        if (round === 4 && how === 'open') await tell({ class: OutcomeClass.SUCCEEDED, phase: Phase.DONE })
        await deps.runner.runNow()
      }
      expect((await acts()).filter(({ host }) => host === 'n2')).toHaveLength(1)
      const ends = (await hostsOfRollouts(fleet.store.db, [id])).map(({ host, ended_as }) => [host, ended_as])
      expect(ends).toEqual(HOSTS.map(host => [host, how === 'failed' && host === 'n2' ? 'failed' : 'done']))
    },
  )

  it('gives nothing that was decided before a node said that the store is older, and goes on when an operator has looked', async () => {
    const { deps, open } = await prepare()
    const [first = ''] = MACHINES
    for (const machine of MACHINES) await connect(deps, machine, { allowed: ['reboot'] })
    const said = { id: 'o9', what: 'reboot', startedMs: fleet.clock.at.getTime() }
    let engine: RolloutEngine | undefined
    let told = 0
    // While the copy is made that an order to the coordinator's own host asks for, a node says it.
    const own = {
      ownHost: () => first,
      ownHostBackup: {
        make: async () => {
          if (told++ === 0) await engine?.restoreWatch.sawOperation('n3', said, fleet.clock.at)
          return 'a copy'
        },
        settle: async () => {},
      },
    }
    engine = await open(own)
    const request = { requestId: 'two', action: 'reboot', refs: ['n1'] }
    await begin({ ...deps, ...engine, ...own, rollouts: engine }, request)
    await engine.runner.runNow()
    const given = async () => (await openOperations(fleet.store.db, [first])).map(({ action }) => action)
    expect(engine.halted()).toContain('n3 tells of operation o9')
    expect(await given()).toEqual([])
    const looked = create(AcceptRestoreRequestSchema, { why: 'looked' })
    await acceptRestore({ ...deps, ...engine })(looked, ANNA)
    await engine.runner.runNow()
    expect(await given()).toEqual(['reboot'])
  })

  it('gives nothing to a host whose agent takes no such orders, tells so beforehand, and goes on when it does', async () => {
    const { deps } = await prepare()
    const [first = ''] = MACHINES
    const say = (allowed: readonly string[]) => connect(deps, first, { allowed })
    await say([])
    const { order } = await begin(deps, { dryRun: true })
    const shut = 'allow: its agent does not take orders to apply'
    expect(order?.map(({ host, waits = [] }) => `${host} ${waits.join()}`)).toContain(`n1 ${shut}`)
    const { rollout } = await begin(deps)
    const planned = async () =>
      (await openOperations(fleet.store.db, MACHINES)).map(({ host }) => host).toSorted()
    expect(await planned()).toEqual(['n2', 'n3', 'n4', 'n5'])
    const row = await findRollout(fleet.store.db, rollout?.id ?? '')
    const [shown] = row ? await describeRollouts(fleet.store.db, [row], 'full', fleet.clock.at.getTime()) : []
    expect(shown?.hosts?.find(({ host }) => host === 'n1')?.waits).toMatchObject([
      { gate: 'allow', opens: '`allow` of its agent has "apply"' },
    ])
    const asked = create(OverrideGateRequestSchema, {
      id: row?.id ?? '',
      host: 'n1',
      gate: 'allow',
      why: 'no',
    })
    const override = overrideGate(deps)(asked, ANNA)
    await expect(override).rejects.toThrow('allow cannot be opened by a word')
    await say(['apply'])
    await deps.runner.runNow()
    expect(await planned()).toContain('n1')
  })

  it('fetches everywhere at once, moves as many as the budget says, and takes the next when they have stayed well', async () => {
    const { deps } = await prepare()
    const { rollout } = await begin(deps)
    const plans = (await openOperations(fleet.store.db, MACHINES)).map(({ action }) => action)
    expect(plans).toEqual(['plan', 'plan', 'plan', 'plan', 'plan'])
    await end(deps, HOSTS)
    expect(await applies()).toEqual(['n1', 'n2'])
    await end(deps, ['n1', 'n2'])
    expect(await applies()).toEqual([])
    pass(60_000)
    await deps.runner.runNow()
    expect(await applies()).toEqual(['n3', 'n4'])
    await end(deps, ['n3', 'n4'])
    pass(60_000)
    await deps.runner.runNow()
    await end(deps, ['n5'])
    pass(60_000)
    await deps.runner.runNow()
    expect(await findRollout(fleet.store.db, rollout?.id ?? '')).toMatchObject({ state: 'succeeded' })
    // Nothing is written any more: a fleet that stands still costs nothing.
    const events = async () => (await fleet.store.db.selectFrom('events').select('id').execute()).length
    const before = await events()
    await deps.runner.runNow()
    expect(await events()).toBe(before)
  })

  it('sees who fell silent while no rollout was open, and since when each of them is away', async () => {
    const { deps, engine } = await prepare({ silentPercent: 30 })
    pass(11 * 60_000)
    const idle = new AbortController()
    const running = engine.run(idle.signal)
    const now = fleet.clock.at.getTime()
    await expect.poll(() => engine.presence.awaySinceMs(MACHINES[0] ?? ''), { timeout: 30_000 }).toBe(now)
    idle.abort()
    await running
    pass(1_000)
    for (const machine of MACHINES.slice(0, 2)) away.add(machine)
    const { snapshot } = await readSnapshot({ ...deps, clusters: NO_CLUSTERS }, fleet.clock.at.getTime())
    expect(['n1', 'n3'].map(host => snapshot.hosts.get(host)?.awaySinceMs)).toEqual([now, undefined])
    await begin(deps)
    const [row] = await openRollouts(fleet.store.db)
    const hosts = await hostsOfRollouts(fleet.store.db, [row?.id ?? ''])
    expect(hosts.flatMap(({ waits }) => waitsOfRow(waits).map(({ gate }) => gate))).toContain('silence')
    expect(await grantsOfRollouts(fleet.store.db, [row?.id ?? ''])).toEqual([])
  })

  it('grants each step once, however often and by whomever it is looked at', async () => {
    const { deps, open } = await prepare()
    const { rollout } = await begin(deps)
    const second = await open()
    await Promise.all([deps.runner.runNow(), second.runner.runNow(), deps.runner.runNow()])
    await end(deps, HOSTS)
    await Promise.all([second.runner.runNow(), deps.runner.runNow(), second.runner.runNow()])
    const grants = await grantsOfRollouts(fleet.store.db, [rollout?.id ?? ''])
    const steps = grants.map(({ host, step, attempt }) => `${host} ${step} ${attempt}`)
    expect(new Set(steps).size).toBe(steps.length)
    expect(await applies()).toEqual(['n1', 'n2'])
  })

  it('after a failure moves nobody else, and is over with its reason', async () => {
    const { deps } = await prepare()
    const { rollout } = await begin(deps)
    await end(deps, HOSTS)
    await end(deps, ['n1', 'n2'], OutcomeClass.ROLLED_BACK)
    pass(3_600_000)
    await deps.runner.runNow()
    expect(await applies()).toEqual([])
    const row = await findRollout(fleet.store.db, rollout?.id ?? '')
    expect(row).toMatchObject({ state: 'failed', reason: expect.stringContaining('n1: rolled back') })
  })

  it('pauses, resumes and aborts at once, and leaves what was begun to its end', async () => {
    const { deps } = await prepare()
    const { rollout } = await begin(deps)
    const id = rollout?.id ?? ''
    const request = { $typeName: 'muster.v1.PauseRolloutRequest', id, why: 'lunch' } as const
    await pauseRollout(deps)(request, ANNA)
    await end(deps, HOSTS)
    expect(await applies()).toEqual([])
    await resumeRollout(deps)({ $typeName: 'muster.v1.ResumeRolloutRequest', id }, ANNA)
    expect(await applies()).toEqual(['n1', 'n2'])
    await abortRollout(deps)({ $typeName: 'muster.v1.AbortRolloutRequest', id, why: '' }, ANNA)
    expect(await findRollout(fleet.store.db, id)).toMatchObject({ state: 'ending' })
    await end(deps, HOSTS)
    pass(60_000)
    await deps.runner.runNow()
    expect(await findRollout(fleet.store.db, id)).toMatchObject({ state: 'aborted' })
    expect(await applies()).toEqual([])
  })

  it('passes a locked host by, and an override of the gate is recorded with who and why', async () => {
    const { deps } = await prepare()
    await lockHost(deps)(
      { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'its disk is full' },
      ANNA,
    )
    const { rollout } = await begin(deps)
    await end(deps, HOSTS)
    expect(await applies()).toEqual(['n2', 'n3'])
    const id = rollout?.id ?? ''
    const open = {
      $typeName: 'muster.v1.OverrideGateRequest',
      id,
      host: 'n1',
      gate: 'lock',
      why: 'it is urgent',
    } as const
    await overrideGate(deps)(open, ANNA)
    const events = await fleet.store.db
      .selectFrom('events')
      .selectAll()
      .where('class', '=', 'rollout')
      .execute()
    expect(events.at(-1)).toMatchObject({
      actor: 'anna',
      reason: expect.stringContaining('gate lock opened for n1: it is urgent'),
    })
    for (const gate of ['quorum', 'away']) {
      await expect(overrideGate(deps)({ ...open, gate }, ANNA)).rejects.toThrow('cannot be opened by a word')
    }
  })

  describe('of hosts that were named by hand', () => {
    const apply = async (deps: GiveOrdersDeps, refs: readonly string[], change: object = {}) => {
      const action = { case: 'apply', value: {} } as const
      const request = { refs: [...refs], requestId: randomId(), action, ...change }
      return await giveOrders(deps)(create(GiveOrdersRequestSchema, request), ANNA)
    }
    const shown = async (id: string) => {
      const row = await findRollout(fleet.store.db, id)
      const rows = row ? [row] : []
      const [rollout] = await describeRollouts(fleet.store.db, rows, 'full', fleet.clock.at.getTime())
      return rollout
    }

    it('N27: moves as many at once as the policy says, and waits until they have stayed well', async () => {
      const { deps, give } = await prepare()
      const { operations, rolloutId = '' } = await apply(give, ['n1', 'n2', 'n3'])
      expect(operations?.map(({ host }) => host)).toEqual(['n1'])
      await end(deps, ['n1'])
      pass(59_000)
      await deps.runner.runNow()
      expect(await applies()).toEqual([])
      expect((await shown(rolloutId))?.hosts[1]?.waits.map(({ gate }) => gate)).toEqual(['budget'])
      pass(1_000)
      await deps.runner.runNow()
      expect(await applies()).toEqual(['n2'])
      // Another word is no way around it.
      expect((await apply(give, ['n4'])).operations).toEqual([])
    })

    it('goes past a budget that only machines use up which are off and were not named, and tells who said so and why', async () => {
      const { deps, give } = await prepare()
      away.add(MACHINES[4] ?? '')
      expect((await apply(give, ['n1', 'n2'])).operations?.map(({ host }) => host)).toEqual(['n1'])
      const [row] = await openRollouts(fleet.store.db)
      const rollout = await shown(row?.id ?? '')
      expect(rollout?.hosts.map(({ host, overridden }) => [host, overridden])).toEqual([
        ['n1', ['budget']],
        ['n2', []],
      ])
      const why = 'named by hand, and does not wait for who is off by itself: n5'
      expect(await overridesOfRollouts(fleet.store.db, [row?.id ?? ''])).toMatchObject([
        { host: 'n1', gate: 'budget', by_whom: 'anna', why },
      ])
      const events = await fleet.store.db
        .selectFrom('events')
        .selectAll()
        .where('reason', 'like', '%gate budget%')
        .execute()
      expect(events).toMatchObject([
        { actor: 'anna', reason: expect.stringContaining(`gate budget opened for n1: ${why}`) },
      ])
      await end(deps, ['n1'])
      expect(await applies()).toEqual([])
    })

    it('T59: waits for everything where a selector had found them, though they are listed one by one', async () => {
      const { give } = await prepare()
      away.add(MACHINES[4] ?? '')
      const { operations, rolloutId = '' } = await apply(give, ['n1', 'n2'], { selected: true })
      expect(operations).toEqual([])
      const rollout = await shown(rolloutId)
      expect(rollout?.hosts.map(({ host, waits }) => [host, waits.map(({ gate }) => gate)])).toEqual([
        ['n1', ['budget']],
        ['n2', ['budget']],
      ])
    })

    it('that only soak gives way to what is ordered of the same hosts, and to a way back, but to nothing else', async () => {
      const { deps, give } = await prepare({ maxUnavailable: '2' })
      for (const machine of MACHINES) await connect(deps, machine, { allowed: ['apply', 'rollback'] })
      await apply(give, ['n1', 'n2'])
      const [first] = await openRollouts(fleet.store.db)
      await end(deps, ['n1', 'n2'])
      pass(1_000)
      await expect(apply(give, ['n1'])).rejects.toThrow(`rollout ${first?.id} is not over and has host n1`)
      const back = { action: { case: 'rollback', value: {} } }
      expect((await apply(give, ['n1'], back)).operations).toMatchObject([{ host: 'n1' }])
      expect(await findRollout(fleet.store.db, first?.id ?? '')).toMatchObject({
        state: 'succeeded',
        reason: expect.stringContaining('anna ordered something else'),
      })
      expect((await hostsOfRollouts(fleet.store.db, [first?.id ?? ''])).map(one => one.ended_as)).toEqual([
        'done',
        'done',
      ])
      expect((await grantsOfRollouts(fleet.store.db, [first?.id ?? ''])).filter(one => !one.closed)).toEqual(
        [],
      )
      await end(deps, ['n1'])
      pass(1_000)
      expect((await apply(give, ['n1'])).operations).toMatchObject([{ host: 'n1' }])
    })

    it('takes nobody who is changed just now from the rollout that changes it', async () => {
      const { give } = await prepare()
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
    const { deps } = await prepare({ maxUnavailable: '2', ...policy }, ['n1'])
    const { rollout } = await begin(deps, { refs: ['n1', 'n2'] })
    await end(deps, HOSTS)
    const [row] = await openRollouts(fleet.store.db)
    const waiting = (await hostsOfRollouts(fleet.store.db, [row?.id ?? ''])).filter(({ waits }) =>
      waitsOfRow(waits).some(({ gate }) => gate === 'checks'),
    )
    expect(rollout?.id).toBe(row?.id)
    expect(waiting.map(({ host }) => host)).toEqual(held)
    expect(await applies()).toEqual(['n1', 'n2'].filter(host => !held.includes(host)))
  })

  it('T41: has another canary where none of those of the policy is in it, and says so', async () => {
    const { deps } = await prepare({ canaries: ['n4'] })
    const { rollout } = await begin(deps, { refs: ['n1', 'n2', 'n3'], settings: { maxUnavailable: '3' } })
    await end(deps, HOSTS)
    expect(await applies()).toEqual(['n1'])
    const events = await fleet.store.db.selectFrom('events').select('reason').execute()
    expect(events.map(({ reason }) => reason)).toContain(
      `rollout ${rollout?.id} (apply revision 1) began with 3 hosts; n1 is its canary, for it has none of those that were asked for`,
    )
  })

  it('is refused beside another that has one of its hosts, unless it goes after that', async () => {
    const { deps } = await prepare()
    const { rollout } = await begin(deps)
    const again = begin(deps, { requestId: 'two', refs: ['n1'] })
    await expect(again).rejects.toThrow(`rollout ${rollout?.id} is not over and has host n1`)
    await begin(deps, { requestId: 'three', refs: ['n1'], after: [rollout?.id ?? ''] })
    expect(await openRollouts(fleet.store.db)).toHaveLength(2)
  })

  it('foretells its order and begins nothing', async () => {
    const { deps } = await prepare()
    away.add(MACHINES[4] ?? '')
    const { order } = await begin(deps, { dryRun: true })
    // The one that is away uses a place of the two.
    expect(order?.map(({ host, wave }) => `${host} ${wave}`)).toEqual([
      'n1 1',
      'n2 2',
      'n3 3',
      'n4 4',
      'n5 0',
    ])
    expect(order?.at(-1)?.waits).toEqual(['away: it is not connected', 'budget: 0 of 5 are away'].slice(0, 1))
    expect(await openRollouts(fleet.store.db)).toEqual([])
  })

  it('tells beforehand what is planned of each host, and of whom no plan is known that still holds', async () => {
    const { deps, give } = await prepare()
    const action = { case: 'apply', value: { revision: 0n, planOnly: true } } as const
    const refs = ['n1', 'n2', 'n3', 'n4']
    await giveOrders(give)(create(GiveOrdersRequestSchema, { refs, requestId: 'plans', action }), ANNA)
    const plan = {
      ...{ from: '/nix/store/old', to: '/nix/store/new', mode: PlanMode.TRIAL_BOOT, leftOut: 2 },
      rebootReasons: [{ kind: 'kernel', before: '6.1', after: '6.6', required: true }],
      ...{ stops: ['a.service'], restarts: ['sshd.service', 'nginx.service'], starts: ['b.service'] },
    }
    for (const operation of await openOperations(fleet.store.db, MACHINES)) {
      const known = operation.host === 'n4' ? {} : { plan }
      const outcome = { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE }
      const report = { operationId: operation.id, revision: 1n, outcome, ...known }
      await recordReport(deps, operation.machine, create(OperationReportSchema, report))
    }
    // Somebody has rebuilt n2 since, and n3 only until its next boot.
    const runs = { number: 3, storePath: '/nix/store/by-hand', current: true }
    await says(MACHINES[1] ?? '', { generations: [runs] })
    const kept = { number: 3, storePath: '/nix/store/old', profile: true, booted: true }
    await says(MACHINES[2] ?? '', { generations: [kept], currentSystem: '/nix/store/test' })
    const { order, notThoughtThrough } = await begin(deps, { dryRun: true })
    expect(notThoughtThrough).toBe(0)
    const [first, ...others] = order ?? []
    expect(first).toMatchObject({
      ...{ host: 'n1', noPlan: '', drained: false, steps: ['prefetch', 'apply', 'soak'] },
      change: {
        ...{ mode: PlanMode.TRIAL_BOOT, moreUnits: 2, rebootReasons: [{ kind: 'kernel', required: true }] },
        ...{ stops: ['a.service'], restarts: ['sshd.service', 'nginx.service'], starts: ['b.service'] },
      },
    })
    const unplanned = 'nobody has planned this revision there'
    expect(others.map(({ host, change, noPlan }) => [host, change, noPlan])).toEqual([
      ...['n2', 'n3'].map(host => [host, undefined, 'it was planned when another system ran there']),
      ...['n4', 'n5'].map(host => [host, undefined, unplanned]),
    ])
    // What changes no system needs no plan.
    const reboot = await begin(deps, { dryRun: true, action: 'reboot', refs: ['n1'] })
    expect(reboot.order).toMatchObject([{ noPlan: '', drained: false }])
  })
})

describe('what ended without fault of its target', () => {
  it('T55, N32: is ordered again when its time has come, a bounded number of times, however often it is reported', async () => {
    const { deps, give } = await prepare()
    const action = { case: 'apply', value: { revision: 0n } } as const
    await giveOrders(give)(create(GiveOrdersRequestSchema, { refs: ['n1'], requestId: 'one', action }), ANNA)
    const waits: number[] = []
    for (let tried = 0; tried < 4; tried++) {
      expect(await applies()).toEqual(['n1'])
      for (let time = 0; time < 3; time++) await end(deps, ['n1'], OutcomeClass.UNCONFIRMED)
      let waited = 0
      while (tried < 3 && (await applies()).length === 0 && waited < 3_600_000) {
        pass(10_000)
        waited += 10_000
        await deps.runner.runNow()
      }
      waits.push(waited)
    }
    expect(waits).toEqual([60_000, 300_000, 900_000, 0])
    pass(3_600_000)
    await deps.runner.runNow()
    expect(await applies()).toEqual([])
    expect(await openRollouts(fleet.store.db)).toEqual([])
  })
})

describe('a host that was left behind', () => {
  it('says what held it and what would let it go', async () => {
    const { deps, give } = await prepare()
    const failed = { storePath: '/nix/store/bad', reason: 'sshd', operationId: 'op-1', revision: 1n }
    const said = create(NodeStatusSchema, { program: '/nix/store/agent', quarantined: [failed] })
    await recordStatus({ ...fleet, directory: deps.directory }, MACHINES[0] ?? '', said)
    const action = { case: 'apply', value: { revision: 0n } } as const
    await giveOrders(give)(create(GiveOrdersRequestSchema, { refs: ['n1'], requestId: 'one', action }), ANNA)
    const rows = await fleet.store.db.selectFrom('rollouts').selectAll().execute()
    const [rollout] = await describeRollouts(fleet.store.db, rows, 'full', deps.clock.now().getTime())
    expect(rollout).toMatchObject({
      state: RolloutState.SUCCEEDED,
      hosts: [{ reason: 'revision 1 failed there and is not tried again, until `muster retry n1`' }],
    })
  })

  /** Everybody but one host, which is locked; the rollout has succeeded. */
  async function withoutFirst() {
    const prepared = await prepare()
    const { deps } = prepared
    const word = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'its disk is full' } as const
    await lockHost(deps)(word, ANNA)
    const soak = { seconds: 0n }
    const { rollout } = await begin(deps, { settings: { maxUnavailable: '5', soak, canarySoak: soak } })
    for (const _ of ['plan', 'apply']) await end(deps, HOSTS)
    const row = await findRollout(fleet.store.db, rollout?.id ?? '')
    expect(row).toMatchObject({ state: 'succeeded', reason: 'left behind: n1' })
    const following = { ...deps, log }
    return { ...prepared, following, id: rollout?.id ?? '' }
  }
  const count = async () => (await fleet.store.db.selectFrom('rollouts').select('id').execute()).length

  it('follows by a rollout of its own once nothing keeps it, and until then none is begun again and again', async () => {
    const { deps, following, id } = await withoutFirst()
    for (let look = 0; look < 3; look++) {
      pass(10_000)
      expect(await catchUp(following)).toBe(0)
    }
    expect(await count()).toBe(1)
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    away.add(MACHINES[0] ?? '')
    expect(await catchUp(following)).toBe(0)
    away.clear()
    expect(await catchUp(following)).toBe(1)
    const [own] = await openRollouts(fleet.store.db)
    expect(own).toMatchObject({ action: 'apply', revision: 1, started_by: 'coordinator' })
    expect(own?.why).toBe(`catches up with rollout ${id}, which left it behind`)
    // While it is under way no second one is begun.
    expect(await catchUp(following)).toBe(0)
    for (const _ of ['plan', 'apply']) await end(deps, HOSTS)
    pass(3_600_000)
    await deps.runner.runNow()
    expect(await findRollout(fleet.store.db, own?.id ?? '')).toMatchObject({ state: 'succeeded', reason: '' })
    expect(await catchUp(following)).toBe(0)
  })

  it('is left alone for a while when it is left behind while it catches up', async () => {
    const { deps, following } = await withoutFirst()
    const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'again' } as const
    const unlock = { $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' } as const
    await unlockHost(deps)(unlock, ANNA)
    pass(10_000)
    expect(await catchUp(following)).toBe(1)
    await lockHost(deps)(lock, ANNA)
    await end(deps, HOSTS)
    expect(await openRollouts(fleet.store.db)).toEqual([])
    await unlockHost(deps)(unlock, ANNA)
    pass(14 * 60_000)
    expect(await catchUp(following)).toBe(0)
    pass(60_000)
    expect(await catchUp(following)).toBe(1)
  })

  it('does not follow a rollout that was taken back', async () => {
    const { deps, following, id } = await withoutFirst()
    const word = { $typeName: 'muster.v1.RevertRolloutRequest', requestId: 'back', id, why: '' } as const
    await connect(deps, MACHINES[1] ?? '', { allowed: ['apply', 'rollback'] })
    await revertRollout(deps)(word, ANNA)
    await end(deps, HOSTS)
    pass(3_600_000)
    await deps.runner.runNow()
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    expect(await catchUp(following)).toBe(0)
  })
})

describe('what is taken back by an operator', () => {
  const back = (id: string, requestId = 'back') =>
    ({ $typeName: 'muster.v1.RevertRolloutRequest', requestId, id, why: '' }) as const

  it('is refused before anything is ended or begun where no host could go back, and says why of each', async () => {
    const { deps } = await prepare()
    const settings = { maxUnavailable: '2', soak: { seconds: 60n } }
    const { rollout } = await begin(deps, { settings })
    const id = rollout?.id ?? ''
    await end(deps, HOSTS)
    await end(deps, ['n1', 'n2'])
    const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'a guest' } as const
    await lockHost(deps)(lock, ANNA)
    await connect(deps, MACHINES[0] ?? '', { allowed: ['apply', 'rollback'] })
    await connect(deps, MACHINES[1] ?? '', { allowed: ['apply'] })
    await expect(revertRollout(deps)(back(id), ANNA)).rejects.toThrow(
      new RegExp(
        `^rollout ${id} cannot be taken back: no host could go back\n` +
          'n1: locked: a guest, until `muster unlock n1`\n' +
          'n2: its agent does not take orders to rollback, until `allow` of its agent has "rollback"$',
      ),
    )
    expect(await findRollout(fleet.store.db, id)).toMatchObject({ state: 'running', ends_as: '' })
    expect(await listRolloutRows(fleet.store.db, { limit: 10, open: false })).toHaveLength(1)
    // Where one can go, it goes, and the end names who was left.
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    const begun = await revertRollout(deps)(back(id), ANNA)
    for (let time = 0; time < 3; time++) {
      pass(120_000)
      await end(deps, ['n1'])
    }
    expect(await findRollout(fleet.store.db, begun.rollout.id)).toMatchObject({
      state: 'succeeded',
      reason: 'left behind: n2',
    })
  })
})

describe('what is to be taken back after a failure', () => {
  it('T43: is an apply; any other action that is to be is refused before anything of it is begun', async () => {
    const { deps } = await prepare()
    const settings = { maxUnavailable: '1', onFailure: 'revert' }
    for (const change of [{ action: 'reboot' }, { action: 'reboot', dryRun: true }]) {
      await expect(begin(deps, { ...change, refs: ['n1'], settings })).rejects.toThrow(
        'settings.on_failure: reboot cannot be taken back, only apply can',
      )
    }
    expect(await openRollouts(fleet.store.db)).toEqual([])
  })

  it('is taken back also by a coordinator that starts after the one that saw it fail was killed', async () => {
    const { deps, open } = await prepare()
    for (const machine of MACHINES) await connect(deps, machine, { allowed: ['apply', 'rollback'] })
    const settings = { maxUnavailable: '1', soak: { seconds: 0n }, onFailure: 'revert' }
    const { rollout } = await begin(deps, { settings })
    await end(deps, HOSTS)
    await end(deps, ['n1'])
    await end(deps, ['n2'], OutcomeClass.ROLLED_BACK)
    expect(await findRollout(fleet.store.db, rollout?.id ?? '')).toMatchObject({ state: 'failed' })
    const begun = async () =>
      (await listRolloutRows(fleet.store.db, { limit: 10, open: false })).filter(
        ({ reverts }) => reverts !== '',
      )
    await expect.poll(begun, { timeout: 20_000 }).toHaveLength(1)
    await deps.runner.runNow()
    // Killed before that was written: nothing of it is there.
    for (const table of ['rollout_hosts', 'rollout_grants'] as const)
      await fleet.store.db
        .deleteFrom(table)
        .where('rollout', '!=', rollout?.id ?? '')
        .execute()
    await fleet.store.db
      .deleteFrom('rollouts')
      .where('reverts', '=', rollout?.id ?? '')
      .execute()
    const { runner } = await open()
    for (let time = 0; time < 2; time++) await beginDueReverts({ ...deps, runner })
    const [own, ...more] = await begun()
    expect({ own, more }).toMatchObject({
      own: { action: 'rollback', reverts: rollout?.id, started_by: 'coordinator' },
      more: [],
    })
    expect((await hostsOfRollouts(fleet.store.db, [own?.id ?? ''])).map(({ host }) => host)).toEqual(['n1'])
  })
})

describe('a rollout that is to be taken back by its policy', () => {
  it('is not while no host could go back, says so once, and is as soon as one can', async () => {
    const { deps } = await prepare()
    for (const machine of MACHINES) await connect(deps, machine, { allowed: ['apply', 'rollback'] })
    const settings = { maxUnavailable: '1', soak: { seconds: 0n }, onFailure: 'revert' }
    const { rollout } = await begin(deps, { settings })
    const id = rollout?.id ?? ''
    await end(deps, HOSTS)
    await end(deps, ['n1'])
    await lockHost(deps)({ $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'a guest' }, ANNA)
    await end(deps, ['n2'], OutcomeClass.ROLLED_BACK)
    expect(await findRollout(fleet.store.db, id)).toMatchObject({ state: 'failed' })
    const begun = async () =>
      (await listRolloutRows(fleet.store.db, { limit: 10, open: false })).filter(
        ({ reverts }) => reverts !== '',
      )
    const told = async () =>
      (await listEventRows(fleet.store.db, { limit: 100 })).filter(({ reason }) =>
        reason.includes('no host could go back'),
      )
    for (let time = 0; time < 2; time++) await beginDueReverts(deps)
    // Who starts anew has nothing new to tell.
    await beginDueReverts({ ...deps, pending: new PendingHosts() })
    expect(await begun()).toEqual([])
    expect((await told()).map(({ reason }) => reason)).toEqual([
      `rollout ${id}: on-failure is revert, and no host could go back: n1: locked: a guest, until \`muster unlock n1\``,
    ])
    const shown = await getRollout(deps)({ $typeName: 'muster.v1.GetRolloutRequest', id })
    expect(shown.pending).toMatchObject([
      { host: 'n1', action: 'rollback', pending: true, waits: [{ gate: 'lock', reason: 'locked: a guest' }] },
    ])
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    await beginDueReverts(deps)
    expect(await begun()).toMatchObject([{ action: 'rollback', reverts: id }])
    expect(deps.pending.all()).toEqual([])
  })
})

describe('a place in the budget', () => {
  it('T47: is held by a machine by name for as long as its change is under way, and given back when it is evicted', async () => {
    const { deps } = await prepare()
    const settings = { maxUnavailable: '1', soak: { seconds: 0n }, onFailure: 'continue' }
    const { rollout } = await begin(deps, { settings })
    await end(deps, HOSTS)
    expect(await applies()).toEqual(['n1'])
    const waitOf = async (host: string) => {
      const [row] = await hostsOfRollouts(fleet.store.db, [rollout?.id ?? '']).then(hosts =>
        hosts.filter(one => one.host === host),
      )
      return waitsOfRow(row?.waits ?? '[]').map(({ gate, reason }) => `${gate}: ${reason}`)
    }
    // It took the order, boots, and is away for a day: nothing of it runs out.
    const [order] = (await openOperations(fleet.store.db, MACHINES)).filter(
      ({ action }) => action === 'apply',
    )
    const began = {
      operationId: order?.id ?? '',
      revision: 1n,
      phases: [{ sequence: 1n, phase: Phase.VERIFY }],
    }
    await recordReport(deps, order?.machine ?? '', create(OperationReportSchema, began))
    away.add(MACHINES[0] ?? '')
    pass(86_400_000)
    await deps.runner.runNow()
    const held = `budget: 1 of 5 are away, 1 may be: n1 (it is not connected)`
    expect(await waitOf('n2')).toEqual([held])
    const word = { $typeName: 'muster.v1.EvictMachineRequest', ref: 'n1', reason: 'it burnt' } as const
    await evictMachine({ ...deps, sessions: { ...deps.sessions, end: () => {} } })(word, ANNA)
    await deps.runner.runNow()
    expect(await applies()).toEqual(['n2'])
    for (const host of HOSTS.slice(1)) {
      expect(await applies()).toEqual([host])
      await end(deps, [host])
    }
    expect(await findRollout(fleet.store.db, rollout?.id ?? '')).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/^1 failed: n1: .*the machine was evicted/),
    })
  })
})

describe('the end that a rollout is told to have', () => {
  it('is by how long those that are done took, in whole milliseconds, and is not told while nobody is done', async () => {
    const { deps } = await prepare()
    const { rollout } = await begin(deps, { settings: { maxUnavailable: '3', soak: { seconds: 0n } } })
    const id = rollout?.id ?? ''
    const expected = async () => {
      const row = await findRollout(fleet.store.db, id)
      const nowMs = fleet.clock.now().getTime()
      const [shown] = row ? await describeRollouts(fleet.store.db, [row], 'brief', nowMs) : []
      // What no message can hold could not be told at all.
      expect(() => shown && toBinary(RolloutSchema, shown)).not.toThrow()
      return shown?.expectedEnd && timestampMs(shown.expectedEnd) - nowMs
    }
    expect(await expected()).toBeUndefined()
    // Neither that they were planned nor that all wait takes anybody away.
    pass(60_000)
    await end(deps, HOSTS)
    pass(1_000)
    await pauseRollout(deps)({ $typeName: 'muster.v1.PauseRolloutRequest', id, why: '' }, ANNA)
    await end(deps, HOSTS.slice(0, 3))
    pass(24 * 3_600_000)
    // Three took a second, so two take two thirds of one: 666.67 ms, which no timestamp holds.
    expect(await expected()).toBe(667)
  })
})
