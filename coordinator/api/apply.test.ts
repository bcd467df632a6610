import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  OperationReportSchema,
  OutcomeClass,
  Phase,
  PhaseRecordSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { ApplyRequestSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { MachineDirectory } from '../machines/directory.ts'
import { ChangeFeed } from '../operations/change-feed.ts'
import { type ApplyCandidate, judgeApply } from '../operations/judge-apply.ts'
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
import { listEventRows } from '../store/events.ts'
import { type ApplyDeps, apply, ORDER_LIFETIME_MS } from './apply.ts'
import type { Caller } from './caller.ts'
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
async function prepare(): Promise<ApplyDeps & SampleFleet> {
  const targets = [
    targetOf(fleet.fleetId, 'olaf', { machine: OLAF }),
    targetOf(fleet.fleetId, 'nas', { machine: NAS }),
    targetOf(fleet.fleetId, 'held', { machine: HELD }),
  ]
  const publish = publishRevision({ ...fleet, log, onPublished: () => {} })
  const signal = new AbortController().signal
  const first = sampleRevision(fleet, undefined, { targets })
  await publish(streamOf(first.messages), ANNA, signal)
  await publish(streamOf(sampleRevision(fleet, first, { targets }).messages), ANNA, signal)
  for (const id of [OLAF, NAS, HELD]) await addMachine(fleet.store, id)
  await addMachine(fleet.store, PENDING, { state: 'pending' })
  await fleet.store.db
    .insertInto('conditions')
    .values({ machine: HELD, class: 'went-back', reason: 'journal', since: 1 })
    .execute()
  return {
    ...fleet,
    directory: await MachineDirectory.load(fleet.store.db, fleet.fleetTargets.current()),
    sessions: { online: () => false, lastMessage: () => undefined, wake: machine => woken.push(machine) },
    conditions: { stuckAfterMs: 600_000, certificateWarnMs: 86_400_000 },
    factsCache: new FactsCache(),
    operationFeed: new ChangeFeed(),
    log,
  }
}

function order(deps: ApplyDeps, request: MessageInitShape<typeof ApplyRequestSchema>) {
  return apply(deps)(create(ApplyRequestSchema, request), ANNA)
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
    expect(woken).toEqual([OLAF, NAS])
    const [pending] = await pendingOrders(fleet.store.db, OLAF, fleet.clock.now())
    expect(pending).toMatchObject({
      operationId: operations?.[0]?.operationId,
      revision: 2n,
      manifestDigest: fleet.fleetTargets.current().manifestDigest,
    })
    const events = await listEventRows(fleet.store.db, { limit: 2 })
    expect(events).toMatchObject([
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
    for (const other of [{ refs: ['olaf'] }, { refs: ['olaf', 'nas'], revision: 1n }, { where: 'true' }]) {
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
      message: expect.stringContaining(`olaf: operation ${running} to revision 2`),
    })
    fleet.clock.at = deps.clock.now()
    const later = new Date(fleet.clock.at.getTime() + ORDER_LIFETIME_MS)
    const after = { ...deps, clock: { now: () => later } }
    const third = await order(after, { refs: ['olaf'], revision: 1n, requestId: 'three' })
    expect(third.operations).toMatchObject([{ revision: 1n }])
    expect(await expireOrders(after)).toBe(1) // the one of nas; olaf's ended with the new order
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
    expect(errors?.map(({ machine }) => machine)).toEqual([NAS])
  })

  it('never orders a machine that may not be touched, and orders all or none', () => {
    const candidate: fc.Arbitrary<ApplyCandidate> = fc.record({
      ref: fc.constantFrom('a', 'b', 'c'),
      machine: fc.constantFrom('m1', 'm2', 'm3', 'm4'),
      state: fc.constantFrom('active', 'active', 'active', 'enrolled', 'banned'),
      held: fc.constantFrom(undefined, undefined, undefined, 'clone'),
      assignment: fc.constantFrom<ApplyCandidate['assignment']>(
        { kind: 'host', host: 'olaf', group: '', boundBy: 'key' },
        { kind: 'host', host: 'edge-1', group: 'edge', boundBy: 'rule' },
        { kind: 'host', host: 'gone', group: '', boundBy: 'key' },
        { kind: 'none', reason: '' },
        { kind: 'conflict', reason: '' },
      ),
      allowed: fc.constantFrom([], ['apply'], ['reboot']),
      open: fc.array(fc.record({ id: fc.string(), revision: fc.integer({ min: 1, max: 3 }) }), {
        maxLength: 2,
      }),
    })
    const target = {
      revision: 2,
      expires: new Date(1000),
      hosts: new Set(['olaf']),
      groups: new Set(['edge']),
      floor: 1,
    }
    fc.assert(
      fc.property(fc.array(candidate, { maxLength: 6 }), fc.integer({ min: 990, max: 1010 }), (all, now) => {
        const verdict = judgeApply(target, all, new Date(now))
        if (verdict.kind === 'refused') {
          expect(verdict.problems.length).toBeGreaterThan(0)
          return
        }
        expect(now).toBeLessThan(1000)
        const machines = verdict.decisions.map(decision => decision.machine)
        expect(new Set(machines)).toEqual(new Set(all.map(({ machine }) => machine)))
        expect(machines.length).toBe(new Set(machines).size)
        for (const decision of verdict.decisions) {
          const one = all.find(({ machine }) => machine === decision.machine)
          expect(one).toMatchObject({ state: 'active', held: undefined, assignment: { kind: 'host' } })
          expect(one?.allowed).not.toEqual(['reboot'])
          expect(one?.open.every(({ revision }) => revision === 2)).toBe(true)
          expect(decision.kind).toBe(one?.open.length ? 'running' : 'order')
        }
      }),
    )
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
