import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type SampleFleet, sampleFleet } from '../../revisions/testing/sample-fleet.ts'
import { listEventRows } from '../../store/events.ts'
import { applyAdoption } from '../judge-adoption.ts'
import { loadRecord, saveRecord } from '../record-store.ts'
import { AUTHORITY, NOW, sampleSnapshot } from '../testing/sample-snapshot.ts'
import { forgottenCordon } from './act-problems.ts'
import { findAct, listCordons, openActs, updateAct } from './act-store.ts'
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
