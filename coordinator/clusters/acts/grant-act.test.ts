import { fromBinary } from '@bufbuild/protobuf'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ClusterOrderSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { operationId } from '../../../shared/ids.ts'
import { signOperatorOrder } from '../../../shared/operator-order/sign-operator-order.ts'
import { sampleFleetId, sampleKey, sampleTrust } from '../../../shared/revision/testing/sample-fleet.ts'
import { type SampleFleet, sampleFleet } from '../../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../../store/events.ts'
import { insertGrant, insertRollout } from '../../store/rollouts.ts'
import { applyAdoption } from '../judge-adoption.ts'
import { loadRecord, saveRecord } from '../record-store.ts'
import { AUTHORITY, NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import { forgottenCordon } from './act-problems.ts'
import { findAct, listCordons, openActs, putCordon, updateAct } from './act-store.ts'
import { drainId } from './drain-id.ts'
import { type GrantDeps, grantAct, withPort } from './grant-act.ts'
import { askFor } from './testing/sample-act.ts'

let fleet: SampleFleet
beforeEach(async () => {
  fleet = await sampleFleet()
  // The snapshot's record is what the store holds.
  await fleet.store.transact(async tx => {
    const empty = await loadRecord(tx, 'home')
    const firstServer = { host: 'a', machine: 'm-a' }
    const adoption = { authority: AUTHORITY, firstServer, hosts: ['a'], versions: [] }
    await saveRecord(tx, empty, applyAdoption(empty.record, adoption, NOW - 3_000_000))
  })
})
afterEach(() => fleet[Symbol.asyncDispose]())

function deps(onLook: () => Promise<void> = async () => {}): GrantDeps {
  return {
    store: fleet.store,
    clock: { now: () => new Date(NOW) },
    trust: { newest: undefined },
    fleetTargets: fleet.fleetTargets,
    snapshot: async name => {
      if (name !== 'home') return undefined
      const { record } = await loadRecord(fleet.store.db, name)
      const snapshot = { ...sampleSnapshot(), record }
      await onLook()
      return snapshot
    },
  }
}

const asked = (requestId: string, ...[act, host]: Parameters<typeof askFor>) => ({
  ask: askFor(act, host, { requestId }),
  askedBy: 'anna',
})

describe('an act that is granted', () => {
  it('and founds by a snapshot is the founding on disk before anybody is told', async () => {
    const { record, generation } = await loadRecord(fleet.store.db, 'home')
    const unknown = { ...record, founding: undefined, firstServer: undefined }
    await fleet.store.transact(tx => saveRecord(tx, { record, generation }, unknown))
    const trust = sampleTrust.trust
    const signedOrder = signOperatorOrder(
      {
        id: 'ab'.repeat(16),
        fleetId: sampleFleetId,
        cluster: 'home',
        act: 'restore',
        node: '',
        machine: '',
        dead: false,
        parameter: 'snap',
        recipientKey: new Uint8Array(),
        createdMs: NOW - 1000,
        expiresMs: NOW + 3_600_000,
      },
      sampleKey,
    )
    const nothing = { data: { kind: 'none' } } as const
    const servers = { a: nothing, b: nothing, c: nothing }
    const snapshot = async () => ({
      ...sampleSnapshot(servers),
      record: (await loadRecord(fleet.store.db, 'home')).record,
    })
    const ask = askFor('restore', 'a', { requestId: 'r', parameter: 'snap', signedOrder })
    const granted = await grantAct(
      { ...deps(), trust: { newest: trust }, snapshot },
      { ask, askedBy: 'anna' },
    )
    if (granted.kind !== 'granted') throw new Error(JSON.stringify(granted))
    const { record: after } = await loadRecord(fleet.store.db, 'home')
    expect(after.founding).toMatchObject({
      state: 'ordered',
      machine: 'm-a',
      host: 'a',
      operation: granted.act.id,
      attempt: 1,
    })
  })

  it('is written with its cordon and its event, once however often it is asked for at the same time', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => grantAct(deps(), asked('r', 'drain', 'd'))))
    expect(all.filter(({ kind }) => kind === 'granted')).toHaveLength(1)
    expect(all.filter(({ kind }) => kind === 'known')).toHaveLength(7)
    const [act, ...more] = await openActs(fleet.store.db, 'home')
    expect(more).toEqual([])
    expect(act).toMatchObject({
      act: 'drain',
      host: 'd',
      executor: 'm-a',
      askedBy: 'anna',
      endedMs: undefined,
    })
    expect(await listCordons(fleet.store.db)).toMatchObject([{ cluster: 'home', host: 'd', act: act?.id }])
    const events = await listEventRows(fleet.store.db, { limit: 10 })
    expect(events).toMatchObject([{ class: 'cluster', host: 'd', actor: 'anna' }])
  })

  it('T50: is one of two that clash, whoever of both was faster', async () => {
    const both = await Promise.all([
      grantAct(deps(), asked('r1', 'drain', 'd')),
      grantAct(deps(), asked('r2', 'uncordon', 'd')),
    ])
    expect(both.map(({ kind }) => kind).sort()).toEqual(['granted', 'refused'])
    expect(await openActs(fleet.store.db, 'home')).toHaveLength(1)
  })

  it('is judged anew when something was begun between judgement and writing', async () => {
    let looks = 0
    const other = async () => {
      looks += 1
      if (looks === 1) await grantAct(deps(), asked('other', 'drain', 'd'))
    }
    const late = await grantAct(deps(other), asked('late', 'cordon', 'd'))
    expect(late).toMatchObject({ kind: 'refused', problems: [expect.stringContaining('drain of d')] })
  })

  it('is none in a cluster that the revision does not have', async () => {
    const { ask, askedBy } = asked('r', 'snapshot')
    expect(await grantAct(deps(), { ask: { ...ask, cluster: 'other' }, askedBy })).toEqual({
      kind: 'no-cluster',
    })
  })
})

describe('a cordon of ours', () => {
  const orderOf = async (requestId: string, act: string, onTheWay: boolean) => {
    const granted = await grantAct(deps(), { ...asked(requestId, act, 'd'), id: requestId, onTheWay })
    if (granted.kind !== 'granted') throw new Error(JSON.stringify(granted))
    await fleet.store.transact(tx => updateAct(tx, { ...granted.act, endedMs: NOW }))
    return fromBinary(ClusterOrderSchema, granted.act.order ?? new Uint8Array()).action.value
  }
  const drainedBy = (operation: string) =>
    fleet.store.transact(async tx => {
      const rollout = {
        id: 'before',
        request: 'b',
        intent: '',
        action: 'reboot',
        asked: Buffer.alloc(0),
        revision: 0,
        manifest_digest: '',
        settings: '{}',
        state: 'failed',
        ends_as: '',
        reason: '',
        why: '',
        started: NOW,
        started_by: 'anna',
        ended: NOW,
        reverts: '',
        after: '[]',
        generation: 1,
      }
      const host = {
        rollout: 'before',
        host: 'd',
        machine: 'm-d',
        cluster: 'home',
        role: 'worker',
        position: 0,
        record: '{}',
        waits: '[]',
        ended_as: 'failed',
      }
      await insertRollout(tx, rollout, [host])
      await insertGrant(tx, {
        rollout: 'before',
        host: 'd',
        step: 'drain',
        attempt: 1,
        machine: 'm-d',
        granted: NOW,
        operation,
      })
      const end = { closed: NOW, outcome: 'done' }
      await tx.updateTable('rollout_grants').set(end).where('operation', '=', operation).execute()
    })

  it('that an operator asked for is neither taken over nor lifted on a rollout’s way; an operator may do both', async () => {
    await orderOf('by-hand', 'cordon', false)
    expect(await orderOf('step', 'drain', true)).toMatchObject({ takesOver: '' })
    expect(await orderOf('step-back', 'uncordon', true)).toMatchObject({ cordonedBy: 'step-back' })
    expect(await orderOf('drain', 'drain', false)).toMatchObject({ takesOver: 'by-hand' })
    expect(await orderOf('back', 'uncordon', false)).toMatchObject({ cordonedBy: '' })
  })

  it('that a rollout left is taken over and lifted by the next one, and by nobody it does not name', async () => {
    await orderOf('left', 'drain', true)
    await drainedBy('left')
    expect(await listCordons(fleet.store.db)).toMatchObject([{ act: 'left', rollout: 'before' }])
    expect(await orderOf('step', 'drain', true)).toMatchObject({ takesOver: 'left' })
    expect(await orderOf('step-back', 'uncordon', true)).toMatchObject({ cordonedBy: 'left' })
  })

  it('T62: that a rollout set is one that rollouts lift also where the store was set back and has neither act nor grant', async () => {
    const act = drainId(new Date(NOW), operationId(new Date(NOW - 1_000)))
    const cordon = { cluster: 'home', host: 'd', act, askedBy: '', atMs: NOW - 1_000 }
    // As it is taken down when it is found on the node.
    await fleet.store.transact(tx => putCordon(tx, cordon))
    expect(await listCordons(fleet.store.db)).toMatchObject([{ act, rollout: act.split('.')[1] }])
    expect(await orderOf('step', 'drain', true)).toMatchObject({ takesOver: act })
    expect(await orderOf('step-back', 'uncordon', true)).toMatchObject({ cordonedBy: act })
  })

  it('that is older than its operation is told, after an hour for a drain and a day for a cordon that was meant', async () => {
    await grantAct(deps(), asked('r', 'drain', 'd'))
    const [cordon] = await listCordons(fleet.store.db, 'home')
    const act = await findAct(fleet.store.db, cordon!.act)
    const hour = 3_600_000
    expect(forgottenCordon(cordon!, act, NOW + 100 * hour)).toBeUndefined()
    await fleet.store.transact(tx => updateAct(tx, { ...act!, endedMs: NOW }))
    const ended = await findAct(fleet.store.db, cordon!.act)
    expect(forgottenCordon(cordon!, ended, NOW + hour - 1)).toBeUndefined()
    expect(forgottenCordon(cordon!, ended, NOW + hour)).toContain('`muster uncordon d`')
    expect(forgottenCordon(cordon!, { ...ended!, act: 'cordon' }, NOW + hour)).toBeUndefined()
    expect(forgottenCordon(cordon!, undefined, NOW + hour)).toContain('d is cordoned by us')
  })
})

it.each([
  ['10.0.100.9', ''],
  ['10.0.100.9:8443', '10.0.100.9:8443'],
  ['fd00::9', ''],
  ['[fd00::9]:8443', '[fd00::9]:8443'],
  [undefined, ''],
])('of the endpoint %s in the fleet file machines are told "%s"', (endpoint, address) => {
  expect(withPort(endpoint)).toBe(address)
})
