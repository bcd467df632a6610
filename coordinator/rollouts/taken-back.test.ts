import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { listEventRows } from '../store/events.ts'
import { findRollout, hostsOfRollouts, listRolloutRows, openRollouts } from '../store/rollouts.ts'
import { lockHost, unlockHost } from './api/locks.ts'
import { revertRollout } from './api/revert-rollout.ts'
import { getRollout } from './api/show-rollouts.ts'
import { PendingHosts } from './pending-hosts.ts'
import { beginDueReverts } from './revert-rollout.ts'
import { ANNA, FiveHosts, HOSTS, MACHINES } from './testing/five-hosts.ts'

let five: FiveHosts
beforeEach(async () => {
  five = await FiveHosts.start()
})
afterEach(() => five[Symbol.asyncDispose]())

describe('what is taken back by an operator', () => {
  const back = (id: string, requestId = 'back') =>
    ({ $typeName: 'muster.v1.RevertRolloutRequest', requestId, id, why: '' }) as const

  it('is refused before anything is ended or begun where no host could go back, and says why of each', async () => {
    const { deps } = await five.prepare()
    const settings = { maxUnavailable: '2', soak: { seconds: 60n } }
    const { rollout } = await five.begin(deps, { settings })
    const id = rollout?.id ?? ''
    await five.end(deps, HOSTS)
    await five.end(deps, ['n1', 'n2'])
    const lock = { $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'a guest' } as const
    await lockHost(deps)(lock, ANNA)
    await five.connect(deps, MACHINES[0] ?? '', { allowed: ['apply', 'rollback'] })
    await five.connect(deps, MACHINES[1] ?? '', { allowed: ['apply'] })
    await expect(revertRollout(deps)(back(id), ANNA)).rejects.toThrow(
      new RegExp(
        `^rollout ${id} cannot be taken back: no host could go back\n` +
          'n1: locked: a guest, until `muster unlock n1`\n' +
          'n2: its agent does not take orders to rollback, until `allow` of its agent has "rollback"$',
      ),
    )
    expect(await findRollout(five.fleet.store.db, id)).toMatchObject({ state: 'running', ends_as: '' })
    expect(await listRolloutRows(five.fleet.store.db, { limit: 10, open: false })).toHaveLength(1)
    // Where one can go, it goes, and the end names who was left.
    await unlockHost(deps)({ $typeName: 'muster.v1.UnlockHostRequest', host: 'n1' }, ANNA)
    const begun = await revertRollout(deps)(back(id), ANNA)
    for (let time = 0; time < 3; time++) {
      five.pass(120_000)
      await five.end(deps, ['n1'])
    }
    expect(await findRollout(five.fleet.store.db, begun.rollout.id)).toMatchObject({
      state: 'succeeded',
      reason: 'left behind: n2',
    })
  })
})

describe('what is to be taken back after a failure', () => {
  it('T43: is an apply; any other action that is to be is refused before anything of it is begun', async () => {
    const { deps } = await five.prepare()
    const settings = { maxUnavailable: '1', onFailure: 'revert' }
    for (const change of [{ action: 'reboot' }, { action: 'reboot', dryRun: true }]) {
      await expect(five.begin(deps, { ...change, refs: ['n1'], settings })).rejects.toThrow(
        'settings.on_failure: reboot cannot be taken back, only apply can',
      )
    }
    expect(await openRollouts(five.fleet.store.db)).toEqual([])
  })

  it('is taken back also by a coordinator that starts after the one that saw it fail was killed', async () => {
    const { deps, open } = await five.prepare()
    for (const machine of MACHINES) await five.connect(deps, machine, { allowed: ['apply', 'rollback'] })
    const settings = { maxUnavailable: '1', soak: { seconds: 0n }, onFailure: 'revert' }
    const { rollout } = await five.begin(deps, { settings })
    await five.end(deps, HOSTS)
    await five.end(deps, ['n1'])
    await five.end(deps, ['n2'], OutcomeClass.ROLLED_BACK)
    expect(await findRollout(five.fleet.store.db, rollout?.id ?? '')).toMatchObject({ state: 'failed' })
    const begun = async () =>
      (await listRolloutRows(five.fleet.store.db, { limit: 10, open: false })).filter(
        ({ reverts }) => reverts !== '',
      )
    await expect.poll(begun, { timeout: 20_000 }).toHaveLength(1)
    await deps.runner.runNow()
    // Killed before that was written: nothing of it is there.
    for (const table of ['rollout_hosts', 'rollout_grants'] as const)
      await five.fleet.store.db
        .deleteFrom(table)
        .where('rollout', '!=', rollout?.id ?? '')
        .execute()
    await five.fleet.store.db
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
    expect((await hostsOfRollouts(five.fleet.store.db, [own?.id ?? ''])).map(({ host }) => host)).toEqual([
      'n1',
    ])
  })
})

describe('a rollout that is to be taken back by its policy', () => {
  it('is not while no host could go back, says so once, and is as soon as one can', async () => {
    const { deps } = await five.prepare()
    for (const machine of MACHINES) await five.connect(deps, machine, { allowed: ['apply', 'rollback'] })
    const settings = { maxUnavailable: '1', soak: { seconds: 0n }, onFailure: 'revert' }
    const { rollout } = await five.begin(deps, { settings })
    const id = rollout?.id ?? ''
    await five.end(deps, HOSTS)
    await five.end(deps, ['n1'])
    await lockHost(deps)({ $typeName: 'muster.v1.LockHostRequest', host: 'n1', why: 'a guest' }, ANNA)
    await five.end(deps, ['n2'], OutcomeClass.ROLLED_BACK)
    expect(await findRollout(five.fleet.store.db, id)).toMatchObject({ state: 'failed' })
    const begun = async () =>
      (await listRolloutRows(five.fleet.store.db, { limit: 10, open: false })).filter(
        ({ reverts }) => reverts !== '',
      )
    const told = async () =>
      (await listEventRows(five.fleet.store.db, { limit: 100 })).filter(({ reason }) =>
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
