import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RolloutPolicySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import {
  OperationReportSchema,
  OutcomeClass,
  Phase,
  PhaseRecordSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { ownHostBackup } from '../backup/own-host-backup.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { ORDER_LIFETIME_MS } from '../operations/order-lifetime.ts'
import { expireOrders, pendingOrders } from '../operations/orders.ts'
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
import { testEngine } from '../rollouts/testing/test-engine.ts'
import { listEventRows } from '../store/events.ts'
import { findMachine } from '../store/machines.ts'
import { findOperation, openOperations } from '../store/operations.ts'
import { openRollouts } from '../store/rollouts.ts'
import type { Caller } from './caller.ts'
import { type GiveOrdersDeps, giveOrders } from './give-orders.ts'
import { listOperations } from './list-operations.ts'
import { publishRevision } from './publish-revision.ts'
import { watchOperations } from './watch-operations.ts'

const ANNA: Caller = { kind: 'operator', id: 'a'.repeat(64), name: 'anna' }
const OLAF = `0a${'1'.repeat(62)}`
const NAS = `0b${'2'.repeat(62)}`
const HELD = `0c${'3'.repeat(62)}`
const PENDING = `0d${'4'.repeat(62)}`
const log = pino({ level: 'silent' })

let fleet: SampleFleet
let woken: string[]
beforeEach(async () => {
  fleet = await sampleFleet()
  woken = []
})
afterEach(() => fleet[Symbol.asyncDispose]())

/** Two revisions for olaf, nas and held; the fourth machine waits for an operator. */
async function prepare(
  ownHost: GiveOrdersDeps['ownHost'] = () => undefined,
): Promise<GiveOrdersDeps & SampleFleet> {
  const targets = [
    targetOf(fleet.fleetId, 'olaf', { machine: OLAF }),
    targetOf(fleet.fleetId, 'nas', { machine: NAS }),
    targetOf(fleet.fleetId, 'held', { machine: HELD }),
  ]
  const publish = publishRevision({ ...fleet, log, onPublished: () => {} })
  const signal = new AbortController().signal
  // As many as are ordered here together may be away together.
  const rollout = create(RolloutPolicySchema, { maxUnavailable: '2' })
  const first = sampleRevision(fleet, undefined, { targets, rollout })
  await publish(streamOf(first.messages), ANNA, signal)
  await publish(streamOf(sampleRevision(fleet, first, { targets, rollout }).messages), ANNA, signal)
  for (const id of [OLAF, NAS, HELD]) await addMachine(fleet.store, id)
  await addMachine(fleet.store, PENDING, { state: 'pending' })
  await fleet.store.db
    .insertInto('conditions')
    .values({ machine: HELD, class: 'went-back', reason: 'journal', since: 1 })
    .execute()
  const directory = await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current())
  const operationFeed = new ChangeFeed()
  const own = { ownHost, ownHostBackup: ownHostBackup({ ...fleet, stateDir: fleet.folder }) }
  return {
    ...fleet,
    directory,
    rollouts: await testEngine({
      ...fleet,
      ...own,
      directory,
      operationFeed,
      wake: machine => void woken.push(machine),
      // The runner sees who is connected; these tests are about what is ordered.
      sessions: {
        live: () => ({ instance: 'one', bootId: 'boot', disputed: false, startedMs: 0 }),
        machines: () => [OLAF, NAS],
      },
    }),
    sessions: { online: () => false, lastMessage: () => undefined, wake: machine => woken.push(machine) },
    conditions: { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 },
    factsCache: new FactsCache(),
    operationFeed,
    ownHost,
    log,
  }
}

type Wanted = Omit<MessageInitShape<typeof GiveOrdersRequestSchema>, '$typeName'> & { revision?: bigint }

/** An apply, where no other action is given. */
function order(deps: GiveOrdersDeps, { revision = 0n, ...request }: Wanted) {
  const action = { case: 'apply', value: { revision } } as const
  return giveOrders(deps)(create(GiveOrdersRequestSchema, { action, ...request }), ANNA)
}

async function operationCount(): Promise<number> {
  return (await fleet.store.db.selectFrom('operations').select('id').execute()).length
}

describe('ordering machines to a revision', () => {
  it('writes the orders, wakes the machines and says who ordered what', async () => {
    const deps = await prepare()
    const { operations } = await order(deps, { refs: ['olaf', NAS.slice(0, 6)], requestId: 'one' })
    expect(operations).toMatchObject([
      { machine: OLAF, host: 'olaf', revision: 2n, orderedBy: 'anna', delivered: false },
      { machine: NAS, host: 'nas', revision: 2n },
    ])
    expect(woken.toSorted()).toEqual([OLAF, NAS])
    const [pending] = await pendingOrders(fleet.store.db, OLAF, fleet.clock.now())
    expect(pending).toMatchObject({
      operationId: operations?.[0]?.operationId,
      revision: 2n,
      manifestDigest: fleet.fleetTargets.current().manifestDigest,
    })
    const events = await listEventRows(fleet.store.db, { limit: 2 })
    expect(events.toSorted((a, b) => (a.host < b.host ? -1 : 1))).toMatchObject([
      { class: 'ordered', machine: NAS, actor: 'anna' },
      { class: 'ordered', machine: OLAF, host: 'olaf' },
    ])
  })

  it('T57: the same request twice counts once, another intent under its id is a conflict', async () => {
    const deps = await prepare()
    const [first, again] = await Promise.all([
      order(deps, { refs: ['olaf', 'nas'], requestId: 'one' }),
      order(deps, { refs: ['nas', 'olaf'], requestId: 'one' }),
    ])
    expect(again.operations?.map(one => one.operationId)).toEqual(
      first.operations?.map(one => one.operationId),
    )
    expect(await operationCount()).toBe(2)
    const others = [{ refs: ['olaf'] }, { refs: ['olaf', 'nas'], revision: 1n }, { where: 'true' }]
    for (const other of [...others, { refs: ['olaf', 'nas'], selected: true }]) {
      await expect(order(deps, { ...other, requestId: 'one' })).rejects.toMatchObject({
        code: status.ALREADY_EXISTS,
      })
    }
    expect(await operationCount()).toBe(2)
  })

  it('a machine on its way there keeps its operation, and one on its way elsewhere is refused by name', async () => {
    const deps = await prepare()
    const { operations } = await order(deps, { refs: ['olaf'], requestId: 'one' })
    const running = operations?.[0]?.operationId ?? ''
    const same = await order(deps, { refs: ['olaf', 'nas'], requestId: 'two' })
    expect(same.operations?.map(one => one.operationId)).toContain(running)
    expect(await operationCount()).toBe(2)
    await expect(order(deps, { refs: ['olaf'], revision: 1n, requestId: 'three' })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringContaining(`olaf: operation ${running} (apply to revision 2) is not done yet`),
    })
    fleet.clock.at = new Date(fleet.clock.at.getTime() + ORDER_LIFETIME_MS)
    const third = await order(deps, { refs: ['olaf'], revision: 1n, requestId: 'three' })
    expect(third.operations).toMatchObject([{ revision: 1n }])
    expect(await expireOrders(deps)).toBe(1) // the one of nas; olaf's ended with the new order
  })

  it('orders nothing when anything is wrong, and names everything that is', async () => {
    const deps = await prepare()
    await expect(order(deps, { refs: ['olaf', 'held', PENDING], requestId: 'one' })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringMatching(/held: is held \(went-back\)[\s\S]*is pending, not active/),
    })
    await expect(order(deps, { refs: ['olaf', 'nobody'], requestId: 'one' })).rejects.toMatchObject({
      code: status.NOT_FOUND,
      message: expect.stringContaining('nobody'),
    })
    for (const [request, code] of [
      [{ requestId: 'x' }, status.INVALID_ARGUMENT],
      [{ refs: ['olaf'], where: 'true', requestId: 'x' }, status.INVALID_ARGUMENT],
      [{ refs: ['olaf'] }, status.INVALID_ARGUMENT],
      [{ where: 'true', selected: true, requestId: 'x' }, status.INVALID_ARGUMENT],
      [{ refs: ['olaf'], requestId: 'x', revision: 9n }, status.NOT_FOUND],
      [{ where: "host == 'nobody'", requestId: 'x' }, status.NOT_FOUND],
      [{ where: 'no(such', requestId: 'x' }, status.INVALID_ARGUMENT],
    ] as const) {
      await expect(order(deps, { ...request, refs: [...(request.refs ?? [])] })).rejects.toMatchObject({
        code,
      })
    }
    expect(await operationCount()).toBe(0)
    expect(woken).toEqual([])
  })

  it('selects by expression and tells for which machines it could not be evaluated', async () => {
    const deps = await prepare()
    const { operations, errors } = await order(deps, {
      where: "host == 'olaf' || (host == 'nas' && labels.rack == 'a')",
      requestId: 'one',
    })
    expect(operations?.map(({ host }) => host)).toEqual(['olaf'])
    expect(errors?.map(({ machine }) => machine)).toEqual(['nas'])
  })
})

describe('orders other than to a revision', () => {
  const of = (action: NonNullable<Wanted['action']>, requestId = randomId()): Wanted => ({
    refs: ['olaf'],
    requestId,
    action,
  })
  const succeed = async (deps: GiveOrdersDeps, id = '') => {
    const outcome = { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE }
    const row = await findOperation(deps.store.db, id)
    const revision = row?.action === 'apply' ? BigInt(row.revision) : 0n
    await recordReport(deps, OLAF, create(OperationReportSchema, { operationId: id, revision, outcome }))
  }
  const pending = () => pendingOrders(fleet.store.db, OLAF, fleet.clock.now())

  it.each<[string, NonNullable<Wanted['action']>, object]>([
    ['plan', { case: 'apply', value: { planOnly: true } }, { revision: 2n }],
    ['hold', { case: 'hold', value: { reason: ' the disk ' } }, { revision: 0n, manifestDigest: '' }],
    ['resume', { case: 'resume', value: {} }, { revision: 0n }],
    ['retry', { case: 'retry', value: {} }, { revision: 0n }],
  ])('%s is kept with its row and sent as it was given', async (word, action, more) => {
    const deps = await prepare()
    const { operations } = await order(deps, of(action))
    expect(operations).toMatchObject([{ action: word, host: 'olaf' }])
    const [sent] = await pending()
    const expected = action.case === 'hold' ? { case: 'hold', value: { reason: 'the disk' } } : action
    expect(sent).toMatchObject({ ...more, action: expected })
  })

  it('a rollback names the operation before whose change the node goes back, and follows where that leads', async () => {
    const deps = await prepare()
    await fleet.store.db.updateTable('machines').set({ allowed: '["apply","rollback"]' }).execute()
    await refreshMachines(fleet.store.db, deps.directory, [OLAF])
    for (const revision of [1n, 2n]) {
      fleet.clock.at = deps.clock.at = new Date(deps.clock.at.getTime() + 1_000)
      const { operations } = await order(deps, { refs: ['olaf'], revision, requestId: `to ${revision}` })
      await succeed(deps, operations?.[0]?.operationId)
    }
    fleet.clock.at = deps.clock.at = new Date(deps.clock.at.getTime() + 1_000)
    const { operations } = await order(deps, of({ case: 'rollback', value: {} }))
    const [back] = operations ?? []
    expect(back).toMatchObject({ action: 'rollback', revision: 1n, rollback: { before: true } })
    expect(await pending()).toMatchObject([
      { revision: 0n, action: { case: 'rollback', value: { operationId: back?.rollback?.operationId } } },
    ])
    await succeed(deps, back?.operationId)
    expect((await findMachine(fleet.store.db, OLAF))?.applied_revision).toBe(1)
  })

  it('refuses what the node does not allow, and an action that is none', async () => {
    const deps = await prepare()
    await expect(order(deps, of({ case: 'reboot', value: {} }))).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: 'olaf: its own configuration forbids reboot: add it to services.muster.agent.allow there',
    })
    const wrong: NonNullable<Wanted['action']>[] = [
      { case: undefined },
      { case: 'hold', value: {} },
      { case: 'rollback', value: { before: true } },
    ]
    for (const action of wrong) {
      await expect(order(deps, of(action))).rejects.toMatchObject({ code: status.INVALID_ARGUMENT })
    }
    expect(await operationCount()).toBe(0)
  })

  it('T57: the same request with another action is a conflict', async () => {
    const deps = await prepare()
    await order(deps, of({ case: 'hold', value: { reason: 'disk' } }, 'one'))
    const others: NonNullable<Wanted['action']>[] = [
      { case: 'hold', value: { reason: 'fan' } },
      { case: 'resume', value: {} },
      { case: 'apply', value: {} },
      { case: 'apply', value: { planOnly: true } },
    ]
    for (const action of others) {
      await expect(order(deps, of(action, 'one'))).rejects.toMatchObject({ code: status.ALREADY_EXISTS })
    }
    const again = await order(deps, of({ case: 'hold', value: { reason: 'disk' } }, 'one'))
    expect(again.operations).toHaveLength(1)
    expect(await operationCount()).toBe(1)
  })

  it('an operator’s order takes the place of one that waits to be tried again', async () => {
    const deps = await prepare()
    const { operations } = await order(deps, { refs: ['olaf'], requestId: 'one' })
    const report = create(OperationReportSchema, {
      operationId: operations?.[0]?.operationId ?? '',
      revision: 2n,
      outcome: { class: OutcomeClass.UNCONFIRMED, phase: Phase.RETURN },
    })
    await recordReport(deps, OLAF, report)
    await deps.rollouts.runner.runNow()
    // It waits for its time, and nothing is ordered before.
    expect(await openOperations(fleet.store.db, [OLAF])).toEqual([])
    const [waiting] = await openRollouts(fleet.store.db)
    expect(waiting).toMatchObject({ action: 'apply', revision: 2 })
    fleet.clock.at = new Date(fleet.clock.at.getTime() + 60_000)
    await deps.rollouts.runner.runNow()
    const [retry] = await openOperations(fleet.store.db, [OLAF])
    expect(retry).toMatchObject({ revision: 2 })
    await recordReport(deps, OLAF, { ...report, operationId: retry?.id ?? '' })
    const { operations: mine } = await order(deps, { refs: ['olaf'], revision: 1n, requestId: 'two' })
    expect(mine).toMatchObject([{ revision: 1n }])
    expect(await openRollouts(fleet.store.db)).toMatchObject([{ revision: 1 }])
  })
})

describe('the coordinator’s own host', () => {
  const own = async (): Promise<GiveOrdersDeps & SampleFleet> => {
    await mkdir(join(fleet.folder, 'authority'))
    return await prepare(() => OLAF)
  }
  const backups = async () => await readdir(join(fleet.folder, 'backups')).catch(() => [])

  it('moves alone', async () => {
    const deps = await own()
    await expect(order(deps, { refs: ['olaf', 'nas'], requestId: 'one' })).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      message: expect.stringContaining('olaf: the coordinator itself runs there'),
    })
    expect([await operationCount(), await backups()]).toEqual([0, []])
    const plan = { case: 'apply', value: { planOnly: true } } as const
    await order(deps, { refs: ['olaf', 'nas'], requestId: 'two', action: plan })
    expect(await backups()).toEqual([])
  })

  it('is ordered after a backup that can be restored, which the event names; a bounded number stays', async () => {
    const deps = await own()
    const ids: string[] = []
    for (let time = 0; time < 7; time++) {
      deps.clock.at = fleet.clock.at = new Date(fleet.clock.at.getTime() + 1_000)
      const { operations } = await order(deps, { refs: ['olaf'], requestId: `number ${time}` })
      const id = operations?.[0]?.operationId ?? ''
      ids.push(id)
      const outcome = { class: OutcomeClass.BUILD_FAILED, phase: Phase.BUILD }
      const report = create(OperationReportSchema, { operationId: id, revision: 2n, outcome })
      await recordReport(deps, OLAF, report)
    }
    const kept = ids.slice(-5).map(id => `before-${id}`)
    expect((await backups()).toSorted()).toEqual(kept)
    const newest = join(fleet.folder, 'backups', kept.at(-1) ?? '')
    expect((await stat(newest)).mode & 0o777).toBe(0o600)
    expect((await readFile(newest)).subarray(0, 16).toString()).toBe('muster backup 1\n')
    const events = await listEventRows(fleet.store.db, { machine: OLAF, limit: 10 })
    const ordered = events.find(event => event.class === 'ordered')
    expect(ordered?.reason).toContain(`${ids.at(-1)}: apply revision 2; the coordinator was backed up to`)
    expect(ordered?.reason).toContain(newest)
  })

  it('leaves no backup of an order that was not given', async () => {
    const deps = await own()
    await expect(
      order(deps, { refs: ['olaf'], requestId: 'x', action: { case: 'reboot', value: {} } }),
    ).rejects.toThrow('forbids reboot')
    expect(await backups()).toEqual([])
    await order(deps, { refs: ['olaf'], requestId: 'one' })
    await order(deps, { refs: ['olaf'], requestId: 'one' })
    await order(deps, { refs: ['olaf'], requestId: 'two' }) // the same order runs already
    expect(await backups()).toHaveLength(1)
  })
})

describe('watching operations', () => {
  it('sends each as it is, then each change, and ends when all have an outcome', async () => {
    const deps = await prepare()
    const { operations } = await order(deps, { refs: ['olaf', 'nas'], requestId: 'one' })
    const [olaf = '', nas = ''] = operations?.map(({ operationId }) => operationId) ?? []
    const watching = watchOperations(deps)(
      { $typeName: 'muster.v1.WatchOperationsRequest', operationIds: [olaf, nas] },
      ANNA,
      new AbortController().signal,
    )
    const seen: string[] = []
    const done = (async () => {
      for await (const { operation } of watching) {
        seen.push(`${operation?.host} ${operation?.phase} ${operation?.outcome?.class ?? '-'}`)
      }
    })()
    await expect.poll(() => seen.toSorted()).toEqual(['nas 0 -', 'olaf 0 -'])
    const report = (operationId: string, phase: Phase, ended: boolean) =>
      create(OperationReportSchema, {
        operationId,
        revision: 2n,
        phases: [create(PhaseRecordSchema, { sequence: 1n, phase })],
        ...(ended && { outcome: { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE } }),
      })
    await recordReport(deps, OLAF, report(olaf, Phase.BUILD, false))
    await expect.poll(() => seen).toContain('olaf 4 -')
    await recordReport(deps, NAS, report(nas, Phase.BUILD, true))
    await recordReport(deps, OLAF, report(olaf, Phase.BUILD, true))
    await done
    expect(seen.slice(3).toSorted()).toEqual(['nas 12 1', 'olaf 12 1'])
    expect(deps.operationFeed.size).toBe(0)
    const listed = await listOperations(deps)({
      $typeName: 'muster.v1.ListOperationsRequest',
      ref: 'olaf',
      limit: 0,
      operationIds: [],
    })
    expect(listed.operations?.map(({ operationId }) => operationId)).toEqual([olaf])
  })

  it('ends when its caller goes away, and names an operation that does not exist', async () => {
    const deps = await prepare()
    const { operations } = await order(deps, { refs: ['olaf'], requestId: 'one' })
    const ids = operations?.map(({ operationId }) => operationId ?? '') ?? []
    const gone = new AbortController()
    const watch = (operationIds: string[]) =>
      watchOperations(deps)(
        { $typeName: 'muster.v1.WatchOperationsRequest', operationIds },
        ANNA,
        gone.signal,
      )
    const watching = watch(ids)
    await watching.next()
    const next = watching.next()
    gone.abort()
    expect((await next).done).toBe(true)
    expect(deps.operationFeed.size).toBe(0)
    await expect(watch(['nothing']).next()).rejects.toMatchObject({ code: status.NOT_FOUND })
  })
})
