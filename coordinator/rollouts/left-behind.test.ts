import { create } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { OperationReportSchema, OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { GiveOrdersRequestSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { RolloutState } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { giveOrders } from '../api/give-orders.ts'
import { recordStatus } from '../machines/record-status.ts'
import { recordReport } from '../operations/record-report.ts'
import { openOperations } from '../store/operations.ts'
import { findRollout, openRollouts } from '../store/rollouts.ts'
import { lockHost, unlockHost } from './api/locks.ts'
import { revertRollout } from './api/revert-rollout.ts'
import { catchUp } from './catch-up.ts'
import { describeRollouts } from './describe-rollout.ts'
import { ANNA, FiveHosts, HOSTS, MACHINES } from './testing/five-hosts.ts'

let five: FiveHosts
beforeEach(async () => {
  five = await FiveHosts.start()
})
afterEach(() => five[Symbol.asyncDispose]())

describe('a host that was left behind', () => {
  it('says what held it and what would let it go', async () => {
    const { deps, give } = await five.prepare()
    const failed = { storePath: '/nix/store/bad', reason: 'sshd', operationId: 'op-1', revision: 1n }
    const said = create(NodeStatusSchema, { program: '/nix/store/agent', quarantined: [failed] })
    await recordStatus({ ...five.fleet, directory: deps.directory }, MACHINES[0] ?? '', said)
    const action = { case: 'apply', value: { revision: 0n } } as const
    await giveOrders(give)(create(GiveOrdersRequestSchema, { refs: ['n1'], requestId: 'one', action }), ANNA)
    const rows = await five.fleet.store.db.selectFrom('rollouts').selectAll().execute()
    const [rollout] = await describeRollouts(five.fleet.store.db, rows, 'full', deps.clock.now().getTime())
    expect(rollout).toMatchObject({
      state: RolloutState.SUCCEEDED,
      hosts: [{ reason: 'revision 1 failed there and is not tried again, until `muster retry n1`' }],
    })
    // Nothing is proved by it: who waits for its success begins nothing.
    const { rollout: next } = await five.begin(deps, {
      requestId: 'two',
      refs: ['n2'],
      after: [rollout?.id ?? ''],
    })
    expect(await findRollout(five.fleet.store.db, next?.id ?? '')).toMatchObject({
      state: 'failed',
      reason: `rollout ${rollout?.id}, which it waited for, left all behind`,
    })
  })

  it('T56: is one that refuses the same system under another number, and fails the rollout of nobody', async () => {
    const { deps } = await five.prepare()
    const failed = { storePath: '/nix/store/bad', reason: 'sshd', operationId: 'op-1', revision: 99n }
    const record = { ...five.fleet, directory: deps.directory }
    const tell = async (quarantined: readonly (typeof failed)[]) => {
      const said = create(NodeStatusSchema, { program: '/nix/store/agent', quarantined: [...quarantined] })
      await recordStatus(record, MACHINES[0] ?? '', said)
    }
    await tell([failed])
    const soak = { seconds: 0n }
    const settings = { maxUnavailable: '5', soak, canarySoak: soak }
    const { rollout: { id = '' } = {} } = await five.begin(deps, { settings })
    const refused = { class: OutcomeClass.REFUSED, refusal: 'quarantined', phase: Phase.DONE }
    for (const operation of await openOperations(five.fleet.store.db, MACHINES.slice(0, 1))) {
      const report = { operationId: operation.id, revision: BigInt(operation.revision), outcome: refused }
      await recordReport(deps, operation.machine, create(OperationReportSchema, report))
    }
    await deps.runner.runNow()
    for (const _ of ['plan', 'apply']) await five.end(deps, HOSTS.slice(1))
    expect(await findRollout(five.fleet.store.db, id)).toMatchObject({
      state: 'succeeded',
      reason: 'left behind: n1',
    })
    // It was asked once, and is not asked again by a rollout that catches up.
    const asked = await operationsOfHost('n1')
    expect(asked.map(({ action }) => action)).toEqual(['plan'])
    five.pass(10_000)
    expect(await catchUp(deps)).toBe(0)
    await tell([])
    five.pass(10_000)
    expect(await catchUp(deps)).toBe(1)
  })

  const operationsOfHost = async (host: string) =>
    await five.fleet.store.db.selectFrom('operations').select('action').where('host', '=', host).execute()

  /** Everybody but one host, which is locked; the rollout has succeeded. */
  async function withoutFirst() {
    const prepared = await five.prepare()
    const { deps } = prepared
    const word = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'its disk is full' } as const
    await lockHost(deps)(word, ANNA)
    const soak = { seconds: 0n }
    const { rollout } = await five.begin(deps, { settings: { maxUnavailable: '5', soak, canarySoak: soak } })
    for (const _ of ['plan', 'apply']) await five.end(deps, HOSTS)
    const row = await findRollout(five.fleet.store.db, rollout?.id ?? '')
    expect(row).toMatchObject({ state: 'succeeded', reason: 'left behind: n1' })
    const following = { ...deps, log: deps.log }
    return { ...prepared, following, id: rollout?.id ?? '' }
  }
  const count = async () => (await five.fleet.store.db.selectFrom('rollouts').select('id').execute()).length

  it('follows by a rollout of its own once nothing keeps it, and until then none is begun again and again', async () => {
    const { deps, following, id } = await withoutFirst()
    for (let look = 0; look < 3; look++) {
      five.pass(10_000)
      expect(await catchUp(following)).toBe(0)
    }
    expect(await count()).toBe(1)
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    five.away.add(MACHINES[0] ?? '')
    expect(await catchUp(following)).toBe(0)
    five.away.clear()
    expect(await catchUp(following)).toBe(1)
    const [own] = await openRollouts(five.fleet.store.db)
    expect(own).toMatchObject({ action: 'apply', revision: 1, started_by: 'coordinator' })
    expect(own?.why).toBe(`catches up with rollout ${id}, which left it behind`)
    // While it is under way no second one is begun.
    expect(await catchUp(following)).toBe(0)
    for (const _ of ['plan', 'apply']) await five.end(deps, HOSTS)
    five.pass(3_600_000)
    await deps.runner.runNow()
    expect(await findRollout(five.fleet.store.db, own?.id ?? '')).toMatchObject({
      state: 'succeeded',
      reason: '',
    })
    expect(await catchUp(following)).toBe(0)
  })

  it('is left alone for a while when it is left behind while it catches up', async () => {
    const { deps, following } = await withoutFirst()
    const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'again' } as const
    const unlock = { $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' } as const
    await unlockHost(deps)(unlock, ANNA)
    five.pass(10_000)
    expect(await catchUp(following)).toBe(1)
    await lockHost(deps)(lock, ANNA)
    await five.end(deps, HOSTS)
    expect(await openRollouts(five.fleet.store.db)).toEqual([])
    await unlockHost(deps)(unlock, ANNA)
    five.pass(14 * 60_000)
    expect(await catchUp(following)).toBe(0)
    five.pass(60_000)
    expect(await catchUp(following)).toBe(1)
  })

  it('does not follow a rollout that was taken back', async () => {
    const { deps, following, id } = await withoutFirst()
    const word = { $typeName: 'muster.v1.RevertRolloutRequest', requestId: 'back', id, why: '' } as const
    await five.connect(deps, MACHINES[1] ?? '', { allowed: ['apply', 'rollback'] })
    await revertRollout(deps)(word, ANNA)
    await five.end(deps, HOSTS)
    five.pass(3_600_000)
    await deps.runner.runNow()
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    expect(await catchUp(following)).toBe(0)
  })
})
