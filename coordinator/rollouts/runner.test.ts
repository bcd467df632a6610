import { create, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate, timestampMs } from '@bufbuild/protobuf/wkt'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HelloSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import {
  AcceptRestoreRequestSchema,
  OverrideGateRequestSchema,
  RolloutSchema,
  StartRolloutRequestSchema,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/version.ts'
import type { Caller } from '../api/caller.ts'
import { evictMachine } from '../api/evict-machine.ts'
import { type GiveOrdersDeps, giveOrders } from '../api/give-orders.ts'
import { publishRevision } from '../api/publish-revision.ts'
import { ownHostBackup } from '../backup/own-host-backup.ts'
import { admitSession } from '../machines/admit-session.ts'
import { MachineDirectory } from '../machines/directory.ts'
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
import { openOperations } from '../store/operations.ts'
import {
  findRollout,
  grantsOfRollouts,
  hostsOfRollouts,
  listRolloutRows,
  openRollouts,
} from '../store/rollouts.ts'
import { acceptRestore } from './api/accept-restore.ts'
import { abortRollout, overrideGate, pauseRollout, resumeRollout } from './api/change-rollout.ts'
import { lockHost, unlockHost } from './api/locks.ts'
import { revertRollout } from './api/revert-rollout.ts'
import { startRollout } from './api/start-rollout.ts'
import { catchUp } from './catch-up.ts'
import { NO_CLUSTERS } from './cluster-source.ts'
import { describeRollouts } from './describe-rollout.ts'
import type { RolloutEngine } from './engine.ts'
import { readLostRollouts } from './lost-rollouts.ts'
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

/** Five hosts outside of clusters, all of them connected, and a real engine around them. */
async function prepare() {
  const targets = HOSTS.map((host, index) =>
    targetOf(fleet.fleetId, host, { machine: MACHINES[index] ?? '' }),
  )
  const publish = publishRevision({ ...fleet, log, onPublished: () => {} })
  const signal = new AbortController().signal
  await publish(streamOf(sampleRevision(fleet, undefined, { targets }).messages), ANNA, signal)
  for (const id of MACHINES) await addMachine(fleet.store, id)
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const operationFeed = new ChangeFeed()
  const own = { ownHost: () => undefined, ownHostBackup: ownHostBackup({ ...fleet, stateDir: fleet.folder }) }
  const live = (machine: string) =>
    away.has(machine) ? undefined : { instance: 'one', bootId: 'b', disputed: false, startedMs: 0 }
  const sessions = { live, machines: () => MACHINES.filter(machine => !away.has(machine)) }
  const open = async (): Promise<RolloutEngine> =>
    await testEngine({ ...fleet, ...own, directory, operationFeed, sessions })
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
    const { snapshot } = await readSnapshot(
      { ...deps, silence: deps.silence, clusters: NO_CLUSTERS },
      fleet.clock.at.getTime(),
    )
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
    await revertRollout(deps)(word, ANNA)
    await end(deps, HOSTS)
    pass(3_600_000)
    await deps.runner.runNow()
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    expect(await catchUp(following)).toBe(0)
  })
})

describe('what is to be taken back after a failure', () => {
  it('is taken back also by a coordinator that starts after the one that saw it fail was killed', async () => {
    const { deps, open } = await prepare()
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
    for (let time = 0; time < 2; time++) await beginDueReverts({ ...deps, runner }, log)
    const [own, ...more] = await begun()
    expect({ own, more }).toMatchObject({
      own: { action: 'rollback', reverts: rollout?.id, started_by: 'coordinator' },
      more: [],
    })
    expect((await hostsOfRollouts(fleet.store.db, [own?.id ?? ''])).map(({ host }) => host)).toEqual(['n1'])
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
    const { rollout } = await begin(deps, { settings: { maxUnavailable: '5', soak: { seconds: 0n } } })
    const expected = async () => {
      const row = await findRollout(fleet.store.db, rollout?.id ?? '')
      const nowMs = fleet.clock.now().getTime()
      const [shown] = row ? await describeRollouts(fleet.store.db, [row], 'brief', nowMs) : []
      // What no message can hold could not be told at all.
      expect(() => shown && toBinary(RolloutSchema, shown)).not.toThrow()
      return shown?.expectedEnd && timestampMs(shown.expectedEnd) - nowMs
    }
    expect(await expected()).toBeUndefined()
    pass(1_000)
    // The plan first, then the change itself.
    for (const _ of ['plan', 'apply']) await end(deps, HOSTS.slice(0, 3))
    // Three took a second, so two take two thirds of one: 666.67 ms, which no timestamp holds.
    expect(await expected()).toBe(667)
  })
})
