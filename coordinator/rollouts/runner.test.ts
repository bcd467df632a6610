import { setImmediate } from 'node:timers/promises'
import { create, toBinary } from '@bufbuild/protobuf'
import { timestampMs } from '@bufbuild/protobuf/wkt'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import {
  AcceptRestoreRequestSchema,
  OverrideGateRequestSchema,
  RolloutSchema,
  StartRolloutRequestSchema,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { evictMachine } from '../api/evict-machine.ts'
import { giveOrders } from '../api/give-orders.ts'
import { pendingOrders } from '../operations/orders.ts'
import { recordReport } from '../operations/record-report.ts'
import { openOperations } from '../store/operations.ts'
import { findRollout, grantsOfRollouts, hostsOfRollouts, openRollouts } from '../store/rollouts.ts'
import { acceptRestore } from './api/accept-restore.ts'
import { abortRollout, overrideGate, pauseRollout, resumeRollout } from './api/change-rollout.ts'
import { lockHost } from './api/locks.ts'
import { startRollout } from './api/start-rollout.ts'
import { type ClusterSource, NO_CLUSTERS } from './cluster-source.ts'
import { describeRollouts } from './describe-rollout.ts'
import type { RolloutEngine } from './engine.ts'
import { readLostRollouts } from './lost-rollouts.ts'
import { waitsOfRow } from './read-record.ts'
import { readSnapshot } from './read-snapshot.ts'
import { ANNA, FiveHosts, HOSTS, MACHINES } from './testing/five-hosts.ts'

let five: FiveHosts
beforeEach(async () => {
  five = await FiveHosts.start()
})
afterEach(() => five[Symbol.asyncDispose]())

describe('a rollout', () => {
  it('boots nobody who has booted since it began, and keeps when a gate was opened', async () => {
    const { deps } = await five.prepare()
    for (const machine of MACHINES) await five.connect(deps, machine, { allowed: ['reboot'] })
    const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'a guest' } as const
    await lockHost(deps)(lock, ANNA)
    const { rollout: { id = '' } = {} } = await five.begin(deps, {
      action: 'reboot',
      refs: ['n1', 'n2'],
      settings: { maxUnavailable: '2', soak: { seconds: 0n } },
    })
    const given = async () => (await openOperations(five.fleet.store.db, MACHINES)).map(({ host }) => host)
    expect(await given()).toEqual(['n2'])
    await five.connect(deps, MACHINES[0] ?? '', { allowed: ['reboot'], bootCount: 2n })
    const open = { id, host: 'n1', gate: 'lock', why: 'it is fine' }
    await overrideGate(deps)(create(OverrideGateRequestSchema, open), ANNA)
    expect(await given()).toEqual(['n2'])
    const grants = (await grantsOfRollouts(five.fleet.store.db, [id])).filter(({ host }) => host === 'n1')
    expect(grants).toMatchObject([
      { step: 'act', outcome: 'skipped', reason: 'it has booted since the rollout began' },
      { step: 'soak', outcome: 'done' },
    ])
    const { snapshot } = await readSnapshot({ ...deps, clusters: NO_CLUSTERS }, five.fleet.clock.at.getTime())
    expect(snapshot.rollouts[0]?.overriddenMs).toEqual(new Map([['n1 lock', five.fleet.clock.at.getTime()]]))
  })

  it('T62: that the store has lost is named by the nodes that had its orders, until an operator has looked', async () => {
    const { deps, engine } = await five.prepare()
    const { rollout: { id = '' } = {} } = await five.begin(deps)
    const [first = '', second = ''] = MACHINES
    const [order] = await pendingOrders(five.fleet.store.db, first, five.fleet.clock.now())
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
    const lost = () => readLostRollouts(five.fleet.store.db)
    // What is on record is not lost, and what an operation of ours says of a rollout is nothing new.
    await tell(first, 'other', { rollout: { id, action: 'apply', revision: 1n, host: 'n1' } })
    await tell(first, order?.operationId ?? '', { rollout: { id: 'r0', action: 'apply', host: 'n1' } })
    await tell(first, 'strange', { rollout: { id: '../x', action: 'apply', host: 'n1' } })
    const gone = { id: 'r0', action: 'apply', revision: 7n }
    await tell(first, 'one', { rollout: { ...gone, host: 'n1' } })
    await tell(second, 'two', { rollout: { ...gone, host: 'not a host!' } })
    await expect.poll(lost).toMatchObject([{ id: 'r0', revision: 7, hosts: ['n1', 'n2'] }])
    const events = await five.fleet.store.db
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
      const { deps, engine } = await five.prepare()
      const settings = { maxUnavailable: '2', soak: { seconds: 0n }, onFailure: 'continue' }
      const { rollout: { id = '' } = {} } = await five.begin(deps, { settings })
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
        (await grantsOfRollouts(five.fleet.store.db, [id])).filter(({ step }) => step === 'act')
      expect(await acts()).toEqual([])
      await tell(outcome)
      expect(await acts()).toMatchObject([{ host: 'n2', operation: 'lost', attempt: 1 }])
      await expect.poll(engine.halted).toContain('which is not on record')
      await acceptRestore(deps)(create(AcceptRestoreRequestSchema, { why: 'looked' }), ANNA)
      for (let round = 0; round < 12; round++) {
        await five.end(
          deps,
          HOSTS.filter(host => host !== 'n2'),
        )
        if (round === 4 && how === 'open') await tell({ class: OutcomeClass.SUCCEEDED, phase: Phase.DONE })
        await deps.runner.runNow()
      }
      expect((await acts()).filter(({ host }) => host === 'n2')).toHaveLength(1)
      const ends = (await hostsOfRollouts(five.fleet.store.db, [id])).map(({ host, ended_as }) => [
        host,
        ended_as,
      ])
      expect(ends).toEqual(HOSTS.map(host => [host, how === 'failed' && host === 'n2' ? 'failed' : 'done']))
    },
  )

  it('gives nothing that was decided before a node said that the store is older, and goes on when an operator has looked', async () => {
    const { deps, open } = await five.prepare()
    const [first = ''] = MACHINES
    for (const machine of MACHINES) await five.connect(deps, machine, { allowed: ['reboot'] })
    const said = { id: 'o9', what: 'reboot', startedMs: five.fleet.clock.at.getTime() }
    let engine: RolloutEngine | undefined
    let told = 0
    // While the copy is made that an order to the coordinator's own host asks for, a node says it.
    const own = {
      ownHost: () => first,
      ownHostBackup: {
        make: async () => {
          if (told++ === 0) await engine?.restoreWatch.sawOperation('n3', said, five.fleet.clock.at)
          return 'a copy'
        },
        settle: async () => {},
      },
    }
    engine = await open(own)
    const request = { requestId: 'two', action: 'reboot', refs: ['n1'] }
    await five.begin({ ...deps, ...engine, ...own, rollouts: engine }, request)
    await engine.runner.runNow()
    const given = async () => (await openOperations(five.fleet.store.db, [first])).map(({ action }) => action)
    expect(engine.halted()).toContain('n3 tells of operation o9')
    expect(await given()).toEqual([])
    const looked = create(AcceptRestoreRequestSchema, { why: 'looked' })
    await acceptRestore({ ...deps, ...engine })(looked, ANNA)
    await engine.runner.runNow()
    expect(await given()).toEqual(['reboot'])
  })

  it('gives nothing to a host whose agent takes no such orders, tells so beforehand, and goes on when it does', async () => {
    const { deps } = await five.prepare()
    const [first = ''] = MACHINES
    const say = (allowed: readonly string[]) => five.connect(deps, first, { allowed })
    await say([])
    const { order } = await five.begin(deps, { dryRun: true })
    const shut = 'allow: its agent does not take orders to apply'
    expect(order?.map(({ host, waits = [] }) => `${host} ${waits.join()}`)).toContain(`n1 ${shut}`)
    const { rollout } = await five.begin(deps)
    const planned = async () =>
      (await openOperations(five.fleet.store.db, MACHINES)).map(({ host }) => host).toSorted()
    expect(await planned()).toEqual(['n2', 'n3', 'n4', 'n5'])
    const row = await findRollout(five.fleet.store.db, rollout?.id ?? '')
    const [shown] = row
      ? await describeRollouts(five.fleet.store.db, [row], 'full', five.fleet.clock.at.getTime())
      : []
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
    const { deps } = await five.prepare()
    const { rollout } = await five.begin(deps)
    const plans = (await openOperations(five.fleet.store.db, MACHINES)).map(({ action }) => action)
    expect(plans).toEqual(['plan', 'plan', 'plan', 'plan', 'plan'])
    await five.end(deps, HOSTS)
    expect(await five.applies()).toEqual(['n1', 'n2'])
    await five.end(deps, ['n1', 'n2'])
    expect(await five.applies()).toEqual([])
    five.pass(60_000)
    await deps.runner.runNow()
    expect(await five.applies()).toEqual(['n3', 'n4'])
    await five.end(deps, ['n3', 'n4'])
    five.pass(60_000)
    await deps.runner.runNow()
    await five.end(deps, ['n5'])
    five.pass(60_000)
    await deps.runner.runNow()
    expect(await findRollout(five.fleet.store.db, rollout?.id ?? '')).toMatchObject({ state: 'succeeded' })
    // Nothing is written any more: a fleet that stands still costs nothing.
    const events = async () => (await five.fleet.store.db.selectFrom('events').select('id').execute()).length
    const before = await events()
    await deps.runner.runNow()
    expect(await events()).toBe(before)
  })

  it('sees who fell silent while no rollout was open, and since when each of them is away', async () => {
    const { deps, engine } = await five.prepare({ silentPercent: 30 })
    five.pass(11 * 60_000)
    const idle = new AbortController()
    const running = engine.run(idle.signal)
    const now = five.fleet.clock.at.getTime()
    await expect.poll(() => engine.presence.awaySinceMs(MACHINES[0] ?? ''), { timeout: 30_000 }).toBe(now)
    idle.abort()
    await running
    five.pass(1_000)
    for (const machine of MACHINES.slice(0, 2)) five.away.add(machine)
    const { snapshot } = await readSnapshot({ ...deps, clusters: NO_CLUSTERS }, five.fleet.clock.at.getTime())
    expect(['n1', 'n3'].map(host => snapshot.hosts.get(host)?.awaySinceMs)).toEqual([now, undefined])
    await five.begin(deps)
    const [row] = await openRollouts(five.fleet.store.db)
    const hosts = await hostsOfRollouts(five.fleet.store.db, [row?.id ?? ''])
    expect(hosts.flatMap(({ waits }) => waitsOfRow(waits).map(({ gate }) => gate))).toContain('silence')
    expect(await grantsOfRollouts(five.fleet.store.db, [row?.id ?? ''])).toEqual([])
  })

  it('grants each step once, however often and by whomever it is looked at', async () => {
    const { deps, open } = await five.prepare()
    const { rollout } = await five.begin(deps)
    const second = await open()
    await Promise.all([deps.runner.runNow(), second.runner.runNow(), deps.runner.runNow()])
    await five.end(deps, HOSTS)
    await Promise.all([second.runner.runNow(), deps.runner.runNow(), second.runner.runNow()])
    const grants = await grantsOfRollouts(five.fleet.store.db, [rollout?.id ?? ''])
    const steps = grants.map(({ host, step, attempt }) => `${host} ${step} ${attempt}`)
    expect(new Set(steps).size).toBe(steps.length)
    expect(await five.applies()).toEqual(['n1', 'n2'])
  })

  it('after a failure moves nobody else, and is over with its reason', async () => {
    const { deps } = await five.prepare()
    const { rollout } = await five.begin(deps)
    await five.end(deps, HOSTS)
    await five.end(deps, ['n1', 'n2'], OutcomeClass.ROLLED_BACK)
    five.pass(3_600_000)
    await deps.runner.runNow()
    expect(await five.applies()).toEqual([])
    const row = await findRollout(five.fleet.store.db, rollout?.id ?? '')
    expect(row).toMatchObject({ state: 'failed', reason: expect.stringContaining('n1: rolled back') })
  })

  it('pauses, resumes and aborts at once, and leaves what was begun to its end', async () => {
    const { deps } = await five.prepare()
    const { rollout } = await five.begin(deps)
    const id = rollout?.id ?? ''
    const request = { $typeName: 'muster.v1.PauseRolloutRequest', id, why: 'lunch' } as const
    await pauseRollout(deps)(request, ANNA)
    await five.end(deps, HOSTS)
    expect(await five.applies()).toEqual([])
    await resumeRollout(deps)({ $typeName: 'muster.v1.ResumeRolloutRequest', id }, ANNA)
    expect(await five.applies()).toEqual(['n1', 'n2'])
    await abortRollout(deps)({ $typeName: 'muster.v1.AbortRolloutRequest', id, why: '' }, ANNA)
    expect(await findRollout(five.fleet.store.db, id)).toMatchObject({ state: 'ending' })
    await five.end(deps, HOSTS)
    five.pass(60_000)
    await deps.runner.runNow()
    expect(await findRollout(five.fleet.store.db, id)).toMatchObject({ state: 'aborted' })
    expect(await five.applies()).toEqual([])
  })

  it('passes a locked host by, and an override of the gate is recorded with who and why', async () => {
    const { deps } = await five.prepare()
    await lockHost(deps)(
      { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'its disk is full' },
      ANNA,
    )
    const { rollout } = await five.begin(deps)
    await five.end(deps, HOSTS)
    expect(await five.applies()).toEqual(['n2', 'n3'])
    const id = rollout?.id ?? ''
    const open = {
      $typeName: 'muster.v1.OverrideGateRequest',
      id,
      host: 'n1',
      gate: 'lock',
      why: 'it is urgent',
    } as const
    await overrideGate(deps)(open, ANNA)
    const events = await five.fleet.store.db
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
})

describe('what ended without fault of its target', () => {
  it('T55, N32: is ordered again when its time has come, a bounded number of times, however often it is reported', async () => {
    const { deps, give } = await five.prepare()
    const action = { case: 'apply', value: { revision: 0n } } as const
    await giveOrders(give)(create(GiveOrdersRequestSchema, { refs: ['n1'], requestId: 'one', action }), ANNA)
    const waits: number[] = []
    for (let tried = 0; tried < 4; tried++) {
      expect(await five.applies()).toEqual(['n1'])
      for (let time = 0; time < 3; time++) await five.end(deps, ['n1'], OutcomeClass.UNCONFIRMED)
      let waited = 0
      while (tried < 3 && (await five.applies()).length === 0 && waited < 3_600_000) {
        five.pass(10_000)
        waited += 10_000
        await deps.runner.runNow()
      }
      waits.push(waited)
    }
    expect(waits).toEqual([60_000, 300_000, 900_000, 0])
    five.pass(3_600_000)
    await deps.runner.runNow()
    expect(await five.applies()).toEqual([])
    expect(await openRollouts(five.fleet.store.db)).toEqual([])
  })
})

describe('a place in the budget', () => {
  it('T47: is held by a machine by name for as long as its change is under way, and given back when it is evicted', async () => {
    const { deps } = await five.prepare()
    const settings = { maxUnavailable: '1', soak: { seconds: 0n }, onFailure: 'continue' }
    const { rollout } = await five.begin(deps, { settings })
    await five.end(deps, HOSTS)
    expect(await five.applies()).toEqual(['n1'])
    const waitOf = async (host: string) => {
      const [row] = await hostsOfRollouts(five.fleet.store.db, [rollout?.id ?? '']).then(hosts =>
        hosts.filter(one => one.host === host),
      )
      return waitsOfRow(row?.waits ?? '[]').map(({ gate, reason }) => `${gate}: ${reason}`)
    }
    // It took the order, boots, and is away for a day: nothing of it runs out.
    const [order] = (await openOperations(five.fleet.store.db, MACHINES)).filter(
      ({ action }) => action === 'apply',
    )
    const began = {
      operationId: order?.id ?? '',
      revision: 1n,
      phases: [{ sequence: 1n, phase: Phase.VERIFY }],
    }
    await recordReport(deps, order?.machine ?? '', create(OperationReportSchema, began))
    five.away.add(MACHINES[0] ?? '')
    five.pass(86_400_000)
    await deps.runner.runNow()
    const held = `budget: 1 of 5 are away, 1 may be: n1 (it is not connected)`
    expect(await waitOf('n2')).toEqual([held])
    const word = { $typeName: 'muster.v1.EvictMachineRequest', ref: 'n1', reason: 'it burnt' } as const
    const ended = { sessions: { ...deps.sessions, end: () => {} }, openCalls: { endMachine: () => {} } }
    await evictMachine({ ...deps, ...ended })(word, ANNA)
    await deps.runner.runNow()
    expect(await five.applies()).toEqual(['n2'])
    for (const host of HOSTS.slice(1)) {
      expect(await five.applies()).toEqual([host])
      await five.end(deps, [host])
    }
    expect(await findRollout(five.fleet.store.db, rollout?.id ?? '')).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/^1 failed: n1: .*the machine was evicted/),
    })
  })
})

describe('the runner', () => {
  it('T53: tells that rollouts stand still once a look has come to no end, or all have failed, for a minute', async () => {
    const { open } = await five.prepare()
    let views: ClusterSource['views'] = NO_CLUSTERS.views
    const { runner } = await open({ clusters: { ...NO_CLUSTERS, views: async nowMs => await views(nowMs) } })
    // Whole: of what is not, a difference may be a hair more than it is.
    const began = Math.ceil(performance.now())
    const now = vi.spyOn(performance, 'now')
    onTestFinished(() => now.mockRestore())
    const at = (ms: number) => now.mockReturnValue(began + ms)
    at(0)
    await runner.runNow()
    at(61_000)
    expect(runner.standstill()).toBeUndefined()
    let release: () => void = () => {}
    views = async () => {
      await new Promise<void>(resolve => {
        release = resolve
      })
      return new Map()
    }
    const look = runner.runNow()
    await setImmediate()
    at(121_000)
    expect(runner.standstill()).toBeUndefined()
    at(121_001)
    expect(runner.standstill()).toBe('rollouts stand still: for 1 min one look at them has come to no end')
    views = async () => await Promise.reject(new Error('a row cannot be read'))
    await vi.waitFor(() => release())
    await look
    expect(runner.standstill()).toBeUndefined()
    for (const ms of [130_000, 160_000, 190_001]) {
      at(ms)
      await expect(runner.runNow()).rejects.toThrow('a row cannot be read')
    }
    expect(runner.standstill()).toBe(
      'rollouts stand still: for 1 min looking at them fails: a row cannot be read',
    )
    views = NO_CLUSTERS.views
    await runner.runNow()
    expect(runner.standstill()).toBeUndefined()
  })

  it('goes on with a rollout that was begun while a look that had found nothing open was not over', async () => {
    const { deps, open } = await five.prepare()
    const held = { isWanted: false, reached: () => {}, release: () => {} }
    const clusters: ClusterSource = {
      ...NO_CLUSTERS,
      views: async () => {
        if (held.isWanted) {
          held.isWanted = false
          await new Promise<void>(resolve => {
            held.release = resolve
            held.reached()
          })
        }
        return new Map()
      },
    }
    const engine = await open({ clusters })
    const { runner } = engine
    await using _running = runUntilLeft(runner)
    let looks = 0
    const racing: Pick<typeof runner, 'changed' | 'runNow'> = {
      changed: () => runner.changed(),
      runNow: async () => {
        looks += 1
        if (looks > 1) {
          const look = runner.runNow()
          held.release()
          return await look
        }
        await runner.runNow()
        // Somebody else looks between this and the writing of the rollout, and reads that there is none.
        const reached = new Promise<void>(resolve => {
          held.reached = resolve
        })
        held.isWanted = true
        void runner.runNow()
        await reached
      },
    }
    const settings = { maxUnavailable: '5', soak: { seconds: 0n } }
    await startRollout({ ...deps, ...engine, runner: racing })(
      create(StartRolloutRequestSchema, { requestId: 'one', settings }),
      ANNA,
    )
    for (const { id, machine, revision } of await openOperations(five.fleet.store.db, MACHINES)) {
      const outcome = { class: OutcomeClass.SUCCEEDED, phase: Phase.DONE }
      const report = { operationId: id, revision: BigInt(revision), outcome }
      await recordReport({ ...deps, ...engine }, machine, create(OperationReportSchema, report))
      runner.trigger()
    }
    await expect.poll(() => five.applies()).toEqual(HOSTS)
  })
})

/** Looks at rollouts until it is left. */
function runUntilLeft(runner: RolloutEngine['runner']): AsyncDisposable {
  const stop = new AbortController()
  const running = runner.run(stop.signal)
  return {
    async [Symbol.asyncDispose]() {
      stop.abort()
      await running
    },
  }
}

describe('the end that a rollout is told to have', () => {
  it('is by how long those that are done took, in whole milliseconds, and is not told while nobody is done', async () => {
    const { deps } = await five.prepare()
    const { rollout } = await five.begin(deps, { settings: { maxUnavailable: '3', soak: { seconds: 0n } } })
    const id = rollout?.id ?? ''
    const expected = async () => {
      const row = await findRollout(five.fleet.store.db, id)
      const nowMs = five.fleet.clock.now().getTime()
      const [shown] = row ? await describeRollouts(five.fleet.store.db, [row], 'brief', nowMs) : []
      // What no message can hold could not be told at all.
      expect(() => shown && toBinary(RolloutSchema, shown)).not.toThrow()
      return shown?.expectedEnd && timestampMs(shown.expectedEnd) - nowMs
    }
    expect(await expected()).toBeUndefined()
    // Neither that they were planned nor that all wait takes anybody away.
    five.pass(60_000)
    await five.end(deps, HOSTS)
    five.pass(1_000)
    await pauseRollout(deps)({ $typeName: 'muster.v1.PauseRolloutRequest', id, why: '' }, ANNA)
    await five.end(deps, HOSTS.slice(0, 3))
    five.pass(24 * 3_600_000)
    // Three took a second, so two take two thirds of one: 666.67 ms, which no timestamp holds.
    expect(await expected()).toBe(667)
  })
})
